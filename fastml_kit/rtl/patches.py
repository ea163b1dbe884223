"""The few changes that FINN's RTL library needs outside Vivado, each checked to still fit.

They are made to the copies in a build folder, never to FINN's own files. Each replaces one text,
which must occur exactly once: when FINN's library changes, the build stops and names
the patch, instead of using a file that nobody has looked at.
"""

from dataclasses import dataclass

from fastml_kit.errors import BuildFailed


@dataclass(frozen=True)
class Patch:
    """Replace `old` by `new` in the file `name`, where it must occur once."""

    name: str
    why: str
    old: str
    new: str


PATCHES = (
    Patch(
        "add_multi.sv",
        "Verilator takes a constant function only from outside a generate block: a new one there",
        "	uwire [SUM_WIDTH-1:0]  sum0;\n",
        """\
	// The addends below each node of the tree, a heap with its root first.
	typedef int unsigned  kit_loads_t[2*N-1];
	function automatic kit_loads_t kit_loads();
		for(int unsigned  i = 2*N-1; i > 0; i--)
			kit_loads[i-1] = i >= N? 1 : kit_loads[2*i-1] + kit_loads[2*i];
	endfunction

	uwire [SUM_WIDTH-1:0]  sum0;
""",
    ),
    Patch(
        "add_multi.sv",
        "the function of the patch above takes the place of the one in the generate block",
        "localparam leaf_load_t   LEAF_LOAD = init_leaf_loads();",
        "localparam kit_loads_t   LEAF_LOAD = kit_loads();",
    ),
    Patch(
        "mvu.sv",
        "a model of the DSP slice's start-up, of use to Vivado's simulator only, waits for time",
        "if(1) begin : blkRecoveryWatch",
        "if(0) begin : blkRecoveryWatch",
    ),
    Patch(
        "mvu_vvu_axi.sv",
        "VERSION 0 is a compute core in LUTs, where a network needs more products than DSP blocks",
        "		else begin : genSoftVec\n",
        """\
		else if(VERSION == 0) begin : genKitLut
			kit_lut_mvu #(
				.VERSION(VERSION), .PE(PE), .SIMD(DSP_SIMD), .WEIGHT_WIDTH(WEIGHT_WIDTH),
				.ACTIVATION_WIDTH(ACTIVATION_WIDTH), .ACCU_WIDTH(ACCU_WIDTH),
				.SIGNED_ACTIVATIONS(SIGNED_ACTIVATIONS), .NARROW_WEIGHTS(NARROW_WEIGHTS)
			) core (
				.clk(ap_clk), .rst, .en('1), .last(dsp_last), .zero(dsp_zero),
				.w(dsp_w), .a(dsp_a), .vld(dsp_vld), .p(dsp_p)
			);
		end : genKitLut
		else begin : genSoftVec
""",
    ),
    Patch(
        "mvu_vvu_axi.sv",
        "with SIMD = MW its output queue overruns under back-pressure; yosys makes no memory of it "
        "(a shift register with a tap); and where a dot product takes long, one register does",
        "	if(1) begin : blkOutput\n",
        """\
	uwire [OUTPUT_STREAM_WIDTH-1:0]  kit_out;
	kit_mvu_queue #(
		.W(OUTPUT_STREAM_WIDTH), .WORDS(SF),
		.IN_FLIGHT(VERSION == 0? 3 + $clog2((SIMD+7)/8) + $clog2(WEIGHT_WIDTH) :
			/* else */ 4 + $clog2(SIMD+1) + (SIMD == 1))
	) output_queue (
		.clk(ap_clk), .rst, .in_data(odat), .in_valid(ovld), .idle,
		.out_data(kit_out), .out_valid(m_axis_output_tvalid), .out_ready(m_axis_output_tready)
	);
	assign	m_axis_output_tdata = OUTPUT_STREAM_WIDTH_BA'($signed(kit_out));
	if(0) begin : blkOutput
""",
    ),
    Patch(
        "thresholding.sv",
        "in the first stage the slice is empty, which Verilator reads as a reversed one",
        "p.ptr[M-1:SN+1] < 2**stage - SCOPE_REDUCE",
        "(p.ptr[M-1:0] >> (SN+1)) < 2**stage - SCOPE_REDUCE",
    ),
    Patch(
        "thresholding.sv",
        "yosys makes no memory of a shift register with a tap, and kit_fifo is a cycle faster",
        "	if(1) begin : blkStreamOutput\n",
        """\
	uwire [PE-1:0][M-1:0]  kit_found;
	uwire [PE-1:0][M-1:0]  kit_out;
	for(genvar  pe = 0; pe < PE; pe++) begin : genKitOut
		assign	kit_found[pe] = pipe[pe][M].ptr;
		assign	odat[pe] = kit_out[pe] + BIAS;
	end : genKitOut
	kit_fifo #(.W(PE*M), .DEPTH(MAX_PENDING)) output_queue (
		.clk, .rst, .in_data(kit_found), .in_valid(pipe[0][M].op ==? TH), .in_ready(),
		.out_data(kit_out), .out_valid(ovld), .out_ready(ordy), .high_water()
	);
	if(0) begin : blkStreamOutput
""",
    ),
    Patch("vpc.sv", "directives may not stand inside a module", "`default_nettype none", ""),
    Patch("vpc.sv", "directives may not stand inside a module", "`default_nettype wire", ""),
)


def apply(name: str, text: str) -> str:
    """Return the `text` of FINN's file `name` with its patches.

    Raises:
        BuildFailed: a patch does not fit the text.
    """
    for patch in PATCHES:
        if patch.name != name:
            continue
        found = text.count(patch.old)
        if found != 1:
            raise BuildFailed(
                f"the patch of {name} ({patch.why}) fits {found} times, not 1: FINN's "
                "RTL library is another version than the patches are for; install that of "
                "ci/requirements.lock, or look at fastml_kit/rtl/patches.py"
            )
        text = text.replace(patch.old, patch.new)
    return text

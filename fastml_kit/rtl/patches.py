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
        "with SIMD = MW an answer comes every cycle, and back-pressure overruns the output queue; "
        "a core in LUTs has a stage more for each doubling of the weights' bits",
        "localparam int unsigned  MAX_IN_FLIGHT = CORE_PIPELINE_DEPTH;",
        "localparam int unsigned  MAX_IN_FLIGHT = CORE_PIPELINE_DEPTH + 3 + $clog2(WEIGHT_WIDTH);",
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
    *(
        Patch(
            "mvu_vvu_axi.sv",
            "yosys makes no memory of a shift register with a tap: a ring is one",
            *pair,
        )
        for pair in (
            (
                """(* SHREG_EXTRACT = "YES" *)
		output_t  OBuf[0:MAX_IN_FLIGHT];""",
                """localparam int unsigned  RING_BITS = $clog2(MAX_IN_FLIGHT+1);
		output_t  OBuf[0:2**RING_BITS-1];
		logic [RING_BITS-1:0]  OWrite = 0;""",
            ),
            (
                "if(ovld)  OBuf <= { odat, OBuf[0:MAX_IN_FLIGHT-1] };",
                "if(ovld)  OBuf[OWrite] <= odat;",
            ),
            (
                "OPtr <= OPtr + $signed(push == pop? 0 : push? 1 : -1);",
                "OPtr <= OPtr + $signed(push == pop? 0 : push? 1 : -1);\n"
                "				if(push)  OWrite <= OWrite + 1;",
            ),
            (
                "OReg <= OBuf[OPtr[$left(OPtr)-1:0]];",
                "OReg <= OBuf[RING_BITS'(OWrite - 1 - OPtr)];",
            ),
        )
    ),
    Patch(
        "thresholding.sv",
        "in the first stage the slice is empty, which Verilator reads as a reversed one",
        "p.ptr[M-1:SN+1] < 2**stage - SCOPE_REDUCE",
        "(p.ptr[M-1:0] >> (SN+1)) < 2**stage - SCOPE_REDUCE",
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

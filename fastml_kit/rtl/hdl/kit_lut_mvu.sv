// A matrix-vector unit's compute core in LUTs: the ports and parameters of FINN's mvu, no DSP block.
//
// In each cycle, every one of PE accumulators adds the product of SIMD weights and SIMD
// activations; the PEs share the activations. The sums are distributed arithmetic over pairs:
//
//   w0*a0 + w1*a1 = sum over weight bits k of 2**k * T_k,   T_k in {0, a0, a1, a0 + a1}
//
// (the sign bit's weight is -2**k). a0 + a1 is made once for all PEs. A bit of T_k then depends on
// five signals: two weight bits, and one bit each of a0, a1 and a0 + a1. A LUT of six inputs can
// therefore both make that bit and add it to a sum that already runs down a carry chain: a pair of
// products costs no multiplier, and about one LUT for each of its sum's bits.
//
// For that, the running sum must be the operand that enters the carry chain directly. yosys puts
// either operand of an addition there, but always the first one of a subtraction. So all sums here
// are subtractions, of numbers in one of two forms:
//
//   below(s) = -1 - s, the complement of s:  below(s + t) = below(s) - t = below(s) - ~below(t)
//   minus_one(v) = v - 1, for whatever holds the sign bit's plane, where v may be negative:
//       minus_one(v * 2**h + s) = {minus_one(v), h - 1 ones, a zero} - below(s)
//
// A plane s of the sign bit counts as v = -s, and below(s) is already minus_one(-s).
//
// Stages, in clock cycles: inputs (1); sums of up to 8 products for each weight bit (1); the tree
// over these groups (clog2 of their number); the tree over the weight bits (clog2 of their number);
// the accumulator (1). A last word thus shows `vld` after
//
//   3 + clog2(ceil(SIMD / 8)) + clog2(WEIGHT_WIDTH)
//
// edges, which mvu_vvu_axi must know to size its output queue.

// One weight bit's sum over up to four pairs of activations, within the cycle, as below(sum).
module kit_lut_mvu_chain #(
    parameter int unsigned PAIRS = 4,
    parameter int unsigned BITS = 3,  // of an activation
    parameter bit SIGNED = 1'b0,
    localparam int unsigned OUT_BITS = BITS + $clog2(2 * PAIRS)
) (
    input  logic [2*PAIRS-1:0]           w,
    input  logic [2*PAIRS-1:0][BITS-1:0] a,
    input  logic [PAIRS-1:0][BITS:0]     pair,  // a[2i] + a[2i+1]
    output logic [OUT_BITS-1:0]          below
);
    for (genvar i = 0; i < PAIRS; i++) begin : g_pair
        localparam int unsigned WIDTH = BITS + $clog2(2 * (i + 1));
        wire [BITS:0] a0 = {SIGNED && a[2*i][BITS-1], a[2*i]};
        wire [BITS:0] a1 = {SIGNED && a[2*i+1][BITS-1], a[2*i+1]};
        wire [BITS:0] term = ({BITS + 1{w[2*i] && w[2*i+1]}} & pair[i])
            | ({BITS + 1{w[2*i] && !w[2*i+1]}} & a0)
            | ({BITS + 1{!w[2*i] && w[2*i+1]}} & a1);
        wire [WIDTH-1:0] wide = {{(WIDTH - BITS - 1) {SIGNED && term[BITS]}}, term};
        // Kept, or yosys would make one tree of carry-save adders of the whole sum, in which no
        // table can hide.
        (* keep *) logic [WIDTH-1:0] so_far;
        if (i == 0) begin : g_first
            assign so_far = ~wide;
        end else begin : g_next
            localparam int unsigned FROM = BITS + $clog2(2 * i);
            wire [FROM-1:0] last = g_pair[i-1].so_far;
            assign so_far = {{(WIDTH - FROM) {!SIGNED || last[FROM-1]}}, last} - wide;
        end
    end
    assign below = g_pair[PAIRS-1].so_far;
endmodule

// The sum of N numbers in the form `below`, with a register behind each of clog2(N) levels.
module kit_lut_mvu_tree #(
    parameter int unsigned N = 2,
    parameter int unsigned BITS = 4,
    parameter bit SIGNED = 1'b0,
    localparam int unsigned LEVELS = $clog2(N)
) (
    input  logic                   clk,
    input  logic                   en,
    input  logic [N-1:0][BITS-1:0] x,
    output logic [BITS+LEVELS-1:0] y
);
    for (genvar l = 0; l <= LEVELS; l++) begin : g_level
        localparam int unsigned NODES = (N + 2 ** l - 1) / 2 ** l;
        logic [NODES-1:0][BITS+l-1:0] node;
        if (l == 0) begin : g_leaves
            assign node = x;
        end else begin : g_sums
            localparam int unsigned BELOW = (N + 2 ** (l - 1) - 1) / 2 ** (l - 1);
            for (genvar i = 0; i < NODES; i++) begin : g_sum
                wire [BITS+l-2:0] one = g_level[l-1].node[2*i];
                wire [BITS+l-1:0] wide_one = {!SIGNED || one[BITS+l-2], one};
                if (2 * i + 1 < BELOW) begin : g_two
                    wire [BITS+l-2:0] two = g_level[l-1].node[2*i+1];
                    wire [BITS+l-1:0] wide_two = {!SIGNED || two[BITS+l-2], two};
                    always_ff @(posedge clk) if (en) node[i] <= wide_one - ~wide_two;
                end else begin : g_one
                    always_ff @(posedge clk) if (en) node[i] <= wide_one;
                end
            end
        end
    end
    assign y = g_level[LEVELS].node[0];
endmodule

// The planes' sums, one for each of N >= 2 weight bits and each in the form `below`, put together:
// minus_one(sum of plane[k] * 2**k, the last one negative), with a register behind each of clog2(N)
// levels.
module kit_lut_mvu_planes #(
    parameter int unsigned N = 2,
    parameter int unsigned BITS = 4,
    parameter bit SIGNED = 1'b0
) (
    input  logic                   clk,
    input  logic                   en,
    input  logic [N-1:0][BITS-1:0] x,
    output logic [BITS+N-1:0]      y
);
    localparam int unsigned LEVELS = $clog2(N);

    // A node of level l spans up to 2**l planes, and gains a bit for each.
    function automatic int unsigned width_at(input int unsigned level);
        return BITS + (level == 0 ? 0 : 2 ** level < N ? 2 ** level : N);
    endfunction

    for (genvar l = 0; l <= LEVELS; l++) begin : g_level
        localparam int unsigned NODES = (N + 2 ** l - 1) / 2 ** l;
        localparam int unsigned WIDTH = width_at(l);
        logic [NODES-1:0][WIDTH-1:0] node;
        if (l == 0) begin : g_leaves
            assign node = x;
        end else begin : g_sums
            localparam int unsigned HALF = 2 ** (l - 1);
            localparam int unsigned BELOW = (N + HALF - 1) / HALF;
            localparam int unsigned FROM = width_at(l - 1);
            for (genvar i = 0; i < NODES; i++) begin : g_sum
                // A plain number's complement has ones above it; with a sign, its sign goes on. The
                // sign plane alone is still a plain number's complement.
                localparam bit TOP = i == NODES - 1;
                localparam bit LOW_PLAIN = !SIGNED && (2 * i + 1 < BELOW || 2 * i * HALF == N - 1);
                localparam bit HIGH_PLAIN = !SIGNED && (!TOP || (2 * i + 1) * HALF == N - 1);
                wire [FROM-1:0] low = g_level[l-1].node[2*i];
                wire [WIDTH-1:0] wide_low = {{(WIDTH - FROM) {LOW_PLAIN || low[FROM-1]}}, low};
                if (2 * i + 1 < BELOW) begin : g_two
                    wire [FROM-1:0] high = g_level[l-1].node[2*i+1];
                    wire [WIDTH-1:0] wide_high =
                        {{(WIDTH - FROM) {HIGH_PLAIN || high[FROM-1]}}, high};
                    if (TOP) begin : g_top
                        // wide_high * 2**HALF + 2**HALF - 2, without an adder
                        wire [WIDTH-1:0] lifted = (wide_high << HALF) | WIDTH'(2 ** HALF - 2);
                        always_ff @(posedge clk) if (en) node[i] <= lifted - wide_low;
                    end else begin : g_plain
                        wire [WIDTH-1:0] lifted = ~wide_high << HALF;
                        always_ff @(posedge clk) if (en) node[i] <= wide_low - lifted;
                    end
                end else begin : g_one
                    always_ff @(posedge clk) if (en) node[i] <= wide_low;
                end
            end
        end
    end
    assign y = g_level[LEVELS].node[0];
endmodule

module kit_lut_mvu #(
    int unsigned VERSION = 1,  // FINN's number of a kind of DSP block: none is used here

    int unsigned PE,
    int unsigned SIMD,
    int unsigned WEIGHT_WIDTH,
    int unsigned ACTIVATION_WIDTH,
    int unsigned ACCU_WIDTH,

    bit SIGNED_ACTIVATIONS = 0,
    bit NARROW_WEIGHTS = 0,   // without effect: -2**(WEIGHT_WIDTH-1) is a weight like any other
    bit FORCE_BEHAVIORAL = 0  // without effect: this is no vendor's cell
) (
    input logic clk,
    input logic rst,
    input logic en,

    input logic last,  // the word ends a dot product
    input logic zero,  // there is no word in this cycle
    input logic signed [PE-1:0][SIMD-1:0][WEIGHT_WIDTH-1:0] w,
    input logic [SIMD-1:0][ACTIVATION_WIDTH-1:0] a,

    output logic vld,  // p is a finished dot product, in this cycle only
    output logic signed [PE-1:0][ACCU_WIDTH-1:0] p
);
    localparam int unsigned CHAIN = 4;  // pairs whose sums follow on each other within one cycle
    localparam int unsigned PAIRS = (SIMD + 1) / 2;
    localparam int unsigned GROUPS = (PAIRS + CHAIN - 1) / CHAIN;
    localparam int unsigned PADDED = GROUPS * CHAIN * 2;
    localparam int unsigned GROUP_PAIRS = PAIRS < CHAIN ? PAIRS : CHAIN;
    localparam int unsigned GROUP_BITS = ACTIVATION_WIDTH + $clog2(2 * GROUP_PAIRS);
    localparam int unsigned PLANE_BITS = GROUP_BITS + $clog2(GROUPS);
    localparam int unsigned DOT_BITS = PLANE_BITS + WEIGHT_WIDTH;
    localparam int unsigned ARRIVE = 2 + $clog2(GROUPS) + $clog2(WEIGHT_WIDTH);

    if (WEIGHT_WIDTH < 2) $error("kit_lut_mvu: WEIGHT_WIDTH=%0d; at least 2", WEIGHT_WIDTH);

    // Which of the words under way are words, and which of these end a dot product.
    logic [ARRIVE:1] word, final_word;
    always_ff @(posedge clk) begin
        if (rst) begin
            word <= '0;
            final_word <= '0;
        end else if (en) begin
            word <= ARRIVE'({word, !zero});
            final_word <= ARRIVE'({final_word, last && !zero});
        end
    end

    logic [PADDED-1:0][ACTIVATION_WIDTH-1:0] a_padded, a1;
    logic [PADDED/2-1:0][ACTIVATION_WIDTH:0] pair1;
    assign a_padded = {{(PADDED - SIMD) * ACTIVATION_WIDTH{1'b0}}, a};
    always_ff @(posedge clk) if (en) a1 <= a_padded;
    for (genvar i = 0; i < PADDED / 2; i++) begin : g_pair
        wire [ACTIVATION_WIDTH-1:0] even = a_padded[2*i];
        wire [ACTIVATION_WIDTH-1:0] odd = a_padded[2*i+1];
        always_ff @(posedge clk)
            if (en)
                pair1[i] <= {SIGNED_ACTIVATIONS && even[ACTIVATION_WIDTH-1], even}
                    + {SIGNED_ACTIVATIONS && odd[ACTIVATION_WIDTH-1], odd};
    end

    logic first;
    always_ff @(posedge clk) begin
        if (rst) begin
            first <= 1'b1;
            vld <= 1'b0;
        end else if (en) begin
            vld <= final_word[ARRIVE];
            if (word[ARRIVE]) first <= final_word[ARRIVE];
        end
    end

    for (genvar i = 0; i < PE; i++) begin : g_pe
        logic [SIMD-1:0][WEIGHT_WIDTH-1:0] w1;
        always_ff @(posedge clk) if (en) w1 <= w[i];

        logic [WEIGHT_WIDTH-1:0][PLANE_BITS-1:0] plane;
        for (genvar k = 0; k < WEIGHT_WIDTH; k++) begin : g_plane
            wire [PADDED-1:0] bits;
            for (genvar s = 0; s < PADDED; s++) begin : g_bit
                if (s < SIMD) assign bits[s] = w1[s][k];
                else assign bits[s] = 1'b0;
            end
            logic [GROUPS-1:0][GROUP_BITS-1:0] group, group2;
            for (genvar g = 0; g < GROUPS; g++) begin : g_group
                kit_lut_mvu_chain #(
                    .PAIRS(GROUP_PAIRS),
                    .BITS(ACTIVATION_WIDTH),
                    .SIGNED(SIGNED_ACTIVATIONS)
                ) chain (
                    .w(bits[2*CHAIN*g+:2*GROUP_PAIRS]),
                    .a(a1[2*CHAIN*g+:2*GROUP_PAIRS]),
                    .pair(pair1[CHAIN*g+:GROUP_PAIRS]),
                    .below(group[g])
                );
            end
            always_ff @(posedge clk) if (en) group2 <= group;
            kit_lut_mvu_tree #(
                .N(GROUPS),
                .BITS(GROUP_BITS),
                .SIGNED(SIGNED_ACTIVATIONS)
            ) groups (
                .clk,
                .en,
                .x(group2),
                .y(plane[k])
            );
        end

        logic [DOT_BITS-1:0] dot;  // minus_one of it
        kit_lut_mvu_planes #(
            .N(WEIGHT_WIDTH),
            .BITS(PLANE_BITS),
            .SIGNED(SIGNED_ACTIVATIONS)
        ) planes (
            .clk,
            .en,
            .x(plane),
            .y(dot)
        );

        // FINN makes the accumulator as narrow as its weights allow, and that may be narrower than
        // any weights would need: the sum is then exact although single terms are cut.
        logic [ACCU_WIDTH-1:0] accumulator;
        wire [ACCU_WIDTH-1:0] dot_cut = ACCU_WIDTH'($signed(dot));
        always_ff @(posedge clk)
            if (en && word[ARRIVE])
                accumulator <= dot_cut - ~(accumulator & {ACCU_WIDTH{!first}});
        assign p[i] = accumulator;
    end
endmodule

// The sum of two streams, element by element: x0 * 2**SHIFT0 + x1 * 2**SHIFT1.
//
// The shifts bring operands of different scales to a common one. The low OUT_BITS bits of the
// exact sum come out; that they hold it is for the one who chooses OUT_BITS to see to.
module kit_add_streams #(
    parameter int unsigned PE = 1,
    parameter int unsigned BITS0 = 8,
    parameter bit SIGNED0 = 1'b0,
    parameter int unsigned SHIFT0 = 0,
    parameter int unsigned BITS1 = 8,
    parameter bit SIGNED1 = 1'b0,
    parameter int unsigned SHIFT1 = 0,
    parameter int unsigned OUT_BITS = 9
) (
    input  logic                   clk,
    input  logic                   rst,
    input  logic [PE*BITS0-1:0]    in0_data,
    input  logic                   in0_valid,
    output logic                   in0_ready,
    input  logic [PE*BITS1-1:0]    in1_data,
    input  logic                   in1_valid,
    output logic                   in1_ready,
    output logic [PE*OUT_BITS-1:0] out_data,
    output logic                   out_valid,
    input  logic                   out_ready
);
    // Wide enough that no operand loses a bit before the sum is cut to OUT_BITS.
    localparam int unsigned WIDTH = OUT_BITS + BITS0 + BITS1;

    logic room, take;
    logic [PE*OUT_BITS-1:0] sum;

    // Neither stream moves on without the other.
    assign room = !out_valid || out_ready;
    assign take = in0_valid && in1_valid && room;
    assign in0_ready = in1_valid && room;
    assign in1_ready = in0_valid && room;

    for (genvar i = 0; i < PE; i++) begin : g_element
        wire [BITS0-1:0] x0 = in0_data[i*BITS0+:BITS0];
        wire [BITS1-1:0] x1 = in1_data[i*BITS1+:BITS1];
        wire [WIDTH-1:0] wide0 = {{(WIDTH - BITS0) {SIGNED0 && x0[BITS0-1]}}, x0} << SHIFT0;
        wire [WIDTH-1:0] wide1 = {{(WIDTH - BITS1) {SIGNED1 && x1[BITS1-1]}}, x1} << SHIFT1;
        wire [WIDTH-1:0] total = wide0 + wide1;
        assign sum[i*OUT_BITS+:OUT_BITS] = total[OUT_BITS-1:0];
    end

    always_ff @(posedge clk) if (take) out_data <= sum;

    always_ff @(posedge clk) begin
        if (rst) out_valid <= 1'b0;
        else if (take) out_valid <= 1'b1;
        else if (out_ready) out_valid <= 1'b0;
    end
endmodule

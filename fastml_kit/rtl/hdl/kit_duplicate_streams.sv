// One stream to COPIES receivers, each of which takes a word when it likes.
//
// A word leaves the input once every receiver has taken it, so the fastest one is at most one word
// ahead of the slowest. Where a branch must run further ahead, as beside a convolution that fills
// its lines first, put a kit_fifo behind its copy. All receivers share out_data.
module kit_duplicate_streams #(
    parameter int unsigned W = 8,
    parameter int unsigned COPIES = 2
) (
    input  logic              clk,
    input  logic              rst,
    input  logic [W-1:0]      in_data,
    input  logic              in_valid,
    output logic              in_ready,
    output logic [W-1:0]      out_data,
    output logic [COPIES-1:0] out_valid,
    input  logic [COPIES-1:0] out_ready
);
    logic [COPIES-1:0] done;  // receivers that already have the word now offered

    assign out_data = in_data;
    assign out_valid = {COPIES{in_valid}} & ~done;
    assign in_ready = &(done | out_ready);

    always_ff @(posedge clk) begin
        if (rst || (in_valid && in_ready)) done <= '0;
        else if (in_valid) done <= done | out_ready;
    end
endmodule

// PARTS words side by side in a wider one, the first in the lowest bits. The wide word leaves one
// cycle after its last part came; parts of the next one come while it does.
module kit_widen #(
    parameter int unsigned W = 8,  // of a narrow word
    parameter int unsigned PARTS = 2
) (
    input  logic               clk,
    input  logic               rst,
    input  logic [W-1:0]       in_data,
    input  logic               in_valid,
    output logic               in_ready,
    output logic [PARTS*W-1:0] out_data,
    output logic               out_valid,
    input  logic               out_ready
);
    logic [PARTS-1:0] place;  // one hot: where the next part goes

    assign in_ready = !out_valid || out_ready;
    wire put = in_valid && in_ready;

    always_ff @(posedge clk) begin
        if (rst) begin
            place <= PARTS'(1);
            out_valid <= 1'b0;
        end else begin
            if (put) place <= {place[PARTS-2:0], place[PARTS-1]};
            if (in_ready) out_valid <= put && place[PARTS-1];
        end
    end
    for (genvar i = 0; i < PARTS; i++) begin : g_part
        always_ff @(posedge clk) if (put && place[i]) out_data[i*W+:W] <= in_data;
    end
endmodule

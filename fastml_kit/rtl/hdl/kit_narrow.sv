// A word's PARTS narrower ones, the lowest bits first. It keeps nothing but a count: the wide word
// stays before it until its last part has gone, so that a part costs no cycle and no register.
module kit_narrow #(
    parameter int unsigned W = 8,  // of a narrow word
    parameter int unsigned PARTS = 2
) (
    input  logic               clk,
    input  logic               rst,
    input  logic [PARTS*W-1:0] in_data,
    input  logic               in_valid,
    output logic               in_ready,
    output logic [W-1:0]       out_data,
    output logic               out_valid,
    input  logic               out_ready
);
    localparam int unsigned INDEX = $clog2(PARTS);

    logic [INDEX-1:0] at;
    logic last;  // `at` is at the last part
    logic [2**INDEX-1:0][W-1:0] part;  // those beyond PARTS are never chosen: let them repeat

    for (genvar i = 0; i < 2 ** INDEX; i++) begin : g_part
        assign part[i] = in_data[(i < PARTS ? i : i - 2 ** (INDEX - 1)) * W+:W];
    end

    assign out_data = part[at];
    assign out_valid = in_valid;
    assign in_ready = out_ready && last;

    always_ff @(posedge clk) begin
        if (rst) begin
            at <= '0;
            last <= 1'b0;
        end else if (in_valid && out_ready) begin
            at <= last ? '0 : at + 1'b1;
            last <= at == INDEX'(PARTS - 2);
        end
    end
endmodule

// The DEPTH words of a hex file, word 0 first, over and over: a layer's weights.
//
// The memory's registered output is the stream's own register, so that block memory needs nothing
// around it, and a word comes in every cycle that takes one.
module kit_rom_stream #(
    parameter int unsigned W = 8,
    parameter int unsigned DEPTH = 1,
    parameter INIT_FILE = "",  // one hex word a line; a relative path is the simulator's or yosys's
    parameter RAM_STYLE = "auto"  // "block", "distributed", or let the tool choose
) (
    input  logic         clk,
    input  logic         rst,
    output logic [W-1:0] out_data,
    output logic         out_valid,
    input  logic         out_ready
);
    localparam int unsigned ADDRESS_BITS = DEPTH > 1 ? $clog2(DEPTH) : 1;
    localparam logic [ADDRESS_BITS-1:0] LAST = ADDRESS_BITS'(DEPTH - 1);

    (* ram_style = RAM_STYLE *) logic [W-1:0] memory[DEPTH];
    initial $readmemh(INIT_FILE, memory);

    logic [ADDRESS_BITS-1:0] at;
    logic fetch;

    assign fetch = !out_valid || out_ready;

    always_ff @(posedge clk) if (fetch) out_data <= memory[at];

    always_ff @(posedge clk) begin
        if (rst) begin
            at <= '0;
            out_valid <= 1'b0;
        end else if (fetch) begin
            at <= at == LAST ? '0 : at + 1'b1;
            out_valid <= 1'b1;
        end
    end
endmodule

// A queue of up to DEPTH words of W bits. It takes and gives one word in every cycle, at any depth.
//
// Shallow or small queues live in LUT memory, which is read within the cycle; a word leaves one
// cycle after it came. Deep ones live in block memory, whose read takes a clock edge, so that a
// word leaves two cycles after it came; the memory's own output latch then holds the first word.
//
// high_water is the largest fill since reset. A simulation reads it to choose DEPTH; synthesis
// removes it where it is left unconnected.
module kit_fifo #(
    parameter int unsigned W = 8,
    parameter int unsigned DEPTH = 2,  // at least 2
    // A block memory saves nothing below some 4096 bits: 64 of them cost little more than one LUT.
    parameter bit BLOCK = DEPTH > 64 && DEPTH * W >= 4096,
    localparam int unsigned FILL_BITS = $clog2(DEPTH + 1)
) (
    input  logic                 clk,
    input  logic                 rst,
    input  logic [W-1:0]         in_data,
    input  logic                 in_valid,
    output logic                 in_ready,
    output logic [W-1:0]         out_data,
    output logic                 out_valid,
    input  logic                 out_ready,
    output logic [FILL_BITS-1:0] high_water
);
    localparam int unsigned ADDRESS_BITS = $clog2(DEPTH);
    localparam logic [ADDRESS_BITS-1:0] LAST = ADDRESS_BITS'(DEPTH - 1);
    localparam logic [FILL_BITS-1:0] FULL = FILL_BITS'(DEPTH);

    // What a word spends in here, times one word a cycle, must fit.
    if (DEPTH < 2 + BLOCK)
        $error("kit_fifo: DEPTH=%0d; it must be at least %0d", DEPTH, 2 + BLOCK);

    logic [FILL_BITS-1:0] fill, next_fill;
    logic put, take;

    assign in_ready = fill != FULL;
    assign put = in_valid && in_ready;
    assign take = out_valid && out_ready;

    always_comb begin
        next_fill = fill;
        if (put && !take) next_fill = fill + 1'b1;
        if (!put && take) next_fill = fill - 1'b1;
    end

    always_ff @(posedge clk) begin
        if (rst) begin
            fill <= '0;
            high_water <= '0;
        end else begin
            fill <= next_fill;
            if (next_fill > high_water) high_water <= next_fill;
        end
    end

    logic [ADDRESS_BITS-1:0] write_at, read_at;
    logic fetch;  // read_at moves on

    always_ff @(posedge clk) begin
        if (rst) begin
            write_at <= '0;
            read_at <= '0;
        end else begin
            if (put) write_at <= write_at == LAST ? '0 : write_at + 1'b1;
            if (fetch) read_at <= read_at == LAST ? '0 : read_at + 1'b1;
        end
    end

    if (BLOCK) begin : g_block
        // No word is read in the cycle that writes it, so nobody needs to define what that gives.
        (* ram_style = "block", no_rw_check *) logic [W-1:0] memory[DEPTH];
        logic [FILL_BITS-1:0] unfetched;  // words in memory that the output latch has not seen
        logic [W-1:0] latch;
        logic latched;

        assign fetch = unfetched != '0 && (!latched || out_ready);
        assign out_valid = latched;
        assign out_data = latch;

        always_ff @(posedge clk) begin
            if (put) memory[write_at] <= in_data;
            if (fetch) latch <= memory[read_at];
        end

        always_ff @(posedge clk) begin
            if (rst) begin
                unfetched <= '0;
                latched <= 1'b0;
            end else begin
                unfetched <= unfetched + FILL_BITS'(put) - FILL_BITS'(fetch);
                if (fetch) latched <= 1'b1;
                else if (out_ready) latched <= 1'b0;
            end
        end
    end else begin : g_lut
        (* ram_style = "distributed" *) logic [W-1:0] memory[DEPTH];

        assign fetch = take;
        assign out_valid = fill != '0;
        assign out_data = memory[read_at];

        always_ff @(posedge clk) if (put) memory[write_at] <= in_data;
    end
endmodule

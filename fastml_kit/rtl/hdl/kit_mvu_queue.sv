// The queue behind a matrix-vector unit's core, which cannot be stalled: `idle` keeps new words from
// it once an answer waits that the receiver does not take, until none waits.
//
// What is under way then still comes. An answer that comes in cycle t - 1 waits in cycle t and has
// idle set in cycle t + 1, so that words enter up to cycle t: those of answers up to cycle
// t + IN_FLIGHT, one in WORDS cycles. PLACES hold them all. Where a dot product takes longer than
// the way through the core that is one place, a plain register.
module kit_mvu_queue #(
    parameter int unsigned W = 8,
    parameter int unsigned IN_FLIGHT = 8,  // cycles from a word's entering the core to its answer
    parameter int unsigned WORDS = 1,  // that make an answer
    localparam int unsigned PLACES = 1 + (IN_FLIGHT + 1) / WORDS
) (
    input  logic         clk,
    input  logic         rst,
    input  logic [W-1:0] in_data,
    input  logic         in_valid,
    output logic         idle,
    output logic [W-1:0] out_data,
    output logic         out_valid,
    input  logic         out_ready
);
    logic waiting;  // an answer is in the queue
    logic full;
    logic [W-1:0] oldest;
    wire free = !out_valid || out_ready;
    wire pop = waiting && free;

    always_ff @(posedge clk) begin
        if (rst) begin
            out_valid <= 1'b0;
            idle <= 1'b0;
        end else begin
            if (free) out_valid <= waiting;
            idle <= waiting && (idle || !free);
        end
    end
    always_ff @(posedge clk) if (free) out_data <= oldest;
`ifndef SYNTHESIS
    always_ff @(posedge clk)
        assert (rst || !in_valid || !full || pop) else $error("%m: an answer finds no place");
`endif

    if (PLACES == 1) begin : g_register
        assign full = waiting;
        always_ff @(posedge clk) begin
            if (rst) waiting <= 1'b0;
            else if (in_valid || pop) waiting <= in_valid;
        end
        always_ff @(posedge clk) if (in_valid) oldest <= in_data;
    end else begin : g_memory
        localparam int unsigned INDEX = $clog2(PLACES);
        localparam int unsigned COUNT = $clog2(PLACES + 1);
        (* ram_style = "distributed" *) logic [W-1:0] memory[2**INDEX];
        logic [INDEX-1:0] head, tail;
        logic [COUNT-1:0] fill;

        assign full = fill == COUNT'(PLACES);
        assign waiting = fill != '0;
        assign oldest = memory[tail];
        always_ff @(posedge clk) begin
            if (rst) begin
                head <= '0;
                tail <= '0;
                fill <= '0;
            end else begin
                if (in_valid) head <= head + 1'b1;
                if (pop) tail <= tail + 1'b1;
                fill <= fill + COUNT'(in_valid) - COUNT'(pop);
            end
        end
        always_ff @(posedge clk) if (in_valid) memory[head] <= in_data;
    end
endmodule

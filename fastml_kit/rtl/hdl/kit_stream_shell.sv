// A valid/ready stream around a pipeline that cannot be stalled: once a word is in, its answer
// comes LATENCY cycles later, wanted or not. So a word is let in only when a place for its answer
// is kept in the queue at the end: `used` counts those places, from the word's coming in to its
// answer's leaving. No answer is ever lost, however long out_ready stays low.
//
// The pipeline (clk, rst, valid_in, data_in, valid_out, data_out) stands outside, at the ports of
// these names, because Verilog has no parameter for a module's name.
//
// A place is taken at edge t, its answer is written at edge t + LATENCY and read at the earliest at
// the next one, and the place can be given out again at edge t + LATENCY + 2: with that many places
// a word comes through every cycle. An answer leaves LATENCY + 1 cycles after its question came.
// Were the pipeline slower than LATENCY says, the stream would be slower, but as correct.
`timescale 1 ns / 1 ps
module kit_stream_shell #(
    parameter LATENCY = 1,
    parameter IN_BITS = 8,
    parameter OUT_BITS = 8,
    parameter PLACES = LATENCY + 2
) (
    input  wire                clk,
    input  wire                rst,

    input  wire [ IN_BITS-1:0] in_data,
    input  wire                in_valid,
    output wire                in_ready,
    output wire [OUT_BITS-1:0] out_data,
    output wire                out_valid,
    input  wire                out_ready,

    output wire                valid_in,  // the pipeline's own ports
    output wire [ IN_BITS-1:0] data_in,
    input  wire                valid_out,
    input  wire [OUT_BITS-1:0] data_out,

    output reg  [        15:0] high_water,  // most answers that ever waited in the queue
    output wire [         1:0] blocked      // a word waits for a place; an answer waits to leave
);
    localparam COUNT = $clog2(PLACES + 1);
    localparam INDEX = PLACES > 1 ? $clog2(PLACES) : 1;

    reg [COUNT-1:0] used, fill;
    reg [INDEX-1:0] head, tail;
    reg [OUT_BITS-1:0] queue[0:PLACES-1];  // read without a register: LUT RAM

    assign in_ready = used != PLACES[COUNT-1:0];
    wire come = in_valid && in_ready;
    wire leave = out_valid && out_ready;

    assign valid_in = come;
    assign data_in = in_data;
    assign out_valid = fill != 0;
    assign out_data = queue[tail];
    assign blocked = {out_valid && !out_ready, in_valid && !in_ready};

    wire [COUNT-1:0] fill_next = fill + {{COUNT - 1{1'b0}}, valid_out} -
                                 {{COUNT - 1{1'b0}}, leave};

    always @(posedge clk) begin
        if (valid_out) queue[head] <= data_out;
        if (rst) begin
            used <= 0;
            fill <= 0;
            head <= 0;
            tail <= 0;
            high_water <= 0;
        end else begin
            used <= used + {{COUNT - 1{1'b0}}, come} - {{COUNT - 1{1'b0}}, leave};
            fill <= fill_next;
            if (valid_out) head <= head == PLACES - 1 ? 0 : head + 1;
            if (leave) tail <= tail == PLACES - 1 ? 0 : tail + 1;
            if (fill_next > high_water) high_water <= {{16 - COUNT{1'b0}}, fill_next};
        end
    end
endmodule

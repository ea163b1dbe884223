// Two memories around a stream core, and a clockwork: frames go in from one as fast as the core
// takes them, over and over if asked, and the answers go into the other.
//
// Counted, from the cycle in which the core takes the first word: `first`, cycles until the last
// word of the first answer comes, which is the latency of an idle core; `cycles`, until the last
// word of the last answer; `answers`. A run's answers lie where its frames did, those of later
// rounds over those of earlier ones.
`timescale 1 ns / 1 ps
module kit_batch #(
    parameter IN_BYTES = 1,     // of a word
    parameter IN_WORDS = 1,     // of a frame
    parameter OUT_BYTES = 1,
    parameter OUT_WORDS = 1,
    parameter IN_DEPTH = 512,   // words; powers of two
    parameter OUT_DEPTH = 512,
    parameter IN_INDEX = $clog2(IN_DEPTH),
    parameter OUT_INDEX = $clog2(OUT_DEPTH)
) (
    input wire clk,
    input wire rst,

    input wire                  write,     // a word of a frame
    input wire [  IN_INDEX-1:0] write_at,
    input wire [8*IN_BYTES-1:0] write_data,

    input  wire [  OUT_INDEX-1:0] read_at,
    output reg  [8*OUT_BYTES-1:0] read_data,  // a cycle later

    input  wire        start,   // for one cycle
    input  wire [15:0] frames,  // at least 1, at most what the memories hold
    input  wire [31:0] rounds,  // at least 1
    output reg         running,
    output reg  [31:0] answers,
    output reg  [31:0] first,
    output reg  [47:0] cycles,

    output reg  [ 8*IN_BYTES-1:0] in_data,  // the core's own ports
    output reg                    in_valid,
    input  wire                   in_ready,
    input  wire [8*OUT_BYTES-1:0] out_data,
    input  wire                   out_valid,
    output wire                   out_ready
);
    (* no_rw_check *) reg [8*IN_BYTES-1:0] questions[0:IN_DEPTH-1];
    (* no_rw_check *) reg [8*OUT_BYTES-1:0] results[0:OUT_DEPTH-1];

    localparam [15:0] IN_LAST = IN_WORDS - 1;
    localparam [15:0] OUT_LAST = OUT_WORDS - 1;

    reg [15:0] last_frame;  // the batch's
    reg [31:0] last_round;

    // What is read next. A block memory's answer comes late in the cycle: `fetched` takes it to a
    // register near the memory, and in_data from there to the core, each with the word it waits for.
    reg asking, held;
    reg [8*IN_BYTES-1:0] fetched;
    reg [IN_INDEX-1:0] ask_at;
    reg [15:0] ask_word, ask_frame;
    reg [31:0] ask_round;
    wire offer = !in_valid || in_ready;
    wire fetch = asking && (!held || offer);
    wire ask_word_end = ask_word == IN_LAST;
    wire ask_batch_end = ask_word_end && ask_frame == last_frame;

    always @(posedge clk) begin
        if (write) questions[write_at] <= write_data;
        if (fetch) fetched <= questions[ask_at];
        if (offer) in_data <= fetched;
    end

    // What is written next.
    reg [OUT_INDEX-1:0] store_at;
    reg [15:0] store_word, store_frame;
    reg [31:0] store_round;
    wire store = out_valid && running;
    wire store_word_end = store_word == OUT_LAST;
    wire store_batch_end = store_word_end && store_frame == last_frame;
    assign out_ready = running;

    always @(posedge clk) begin
        if (store) results[store_at] <= out_data;
        read_data <= results[read_at];
    end

    reg begun, answered;  // the core took a word; it has answered a frame

    always @(posedge clk) begin
        if (offer) in_valid <= held;
        if (fetch) held <= 1'b1;
        else if (offer) held <= 1'b0;
        if (fetch) begin
            ask_at <= ask_batch_end ? {IN_INDEX{1'b0}} : ask_at + 1'b1;
            ask_word <= ask_word_end ? 16'd0 : ask_word + 1'b1;
            if (ask_word_end) ask_frame <= ask_batch_end ? 16'd0 : ask_frame + 1'b1;
            if (ask_batch_end) begin
                ask_round <= ask_round + 1'b1;
                if (ask_round == last_round) asking <= 1'b0;
            end
        end
        if (store) begin
            store_at <= store_batch_end ? {OUT_INDEX{1'b0}} : store_at + 1'b1;
            store_word <= store_word_end ? 16'd0 : store_word + 1'b1;
            if (store_word_end) begin
                store_frame <= store_batch_end ? 16'd0 : store_frame + 1'b1;
                answers <= answers + 1'b1;
                answered <= 1'b1;
            end
            if (store_batch_end) begin
                store_round <= store_round + 1'b1;
                if (store_round == last_round) running <= 1'b0;
            end
        end
        if (in_valid && in_ready) begin
            begun <= 1'b1;
        end
        if (begun && running) begin
            cycles <= cycles + 1'b1;
            if (!answered) first <= first + 1'b1;
        end
        if (start && !running) begin
            running <= 1'b1;
            asking <= 1'b1;
            last_frame <= frames - 1'b1;
            last_round <= rounds - 1'b1;
            {ask_at, ask_word, ask_frame, ask_round} <= 0;
            {store_at, store_word, store_frame, store_round} <= 0;
            {begun, answered, answers, first, cycles} <= 0;
        end
        if (rst) begin
            running <= 1'b0;
            asking <= 1'b0;
            held <= 1'b0;
            in_valid <= 1'b0;
            {begun, answered, answers, first, cycles} <= 0;
        end
    end
endmodule

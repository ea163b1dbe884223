// The largest of every WINDOW words, for each of the PE channels in a word by itself.
//
// This is FINN's Pool with Function="MaxPool" behind a depthwise sliding window, which sends all
// WINDOW = k*k elements of PE channels, one word each, before it goes on to the next PE channels.
// The windows of all channel groups and of all pixels therefore look alike, and nothing here
// needs to know how many there are.
module kit_max_pool #(
    parameter int unsigned PE = 1,
    parameter int unsigned BITS = 8,
    parameter bit SIGNED = 1'b0,
    parameter int unsigned WINDOW = 4
) (
    input  logic               clk,
    input  logic               rst,
    input  logic [PE*BITS-1:0] in_data,
    input  logic               in_valid,
    output logic               in_ready,
    output logic [PE*BITS-1:0] out_data,
    output logic               out_valid,
    input  logic               out_ready
);
    localparam int unsigned COUNT_BITS = WINDOW > 1 ? $clog2(WINDOW) : 1;
    localparam logic [COUNT_BITS-1:0] LAST = COUNT_BITS'(WINDOW - 1);
    // With the sign bit inverted, two's complement numbers compare as unsigned ones do.
    localparam logic [BITS-1:0] BIAS = {SIGNED, {(BITS - 1) {1'b0}}};

    logic [COUNT_BITS-1:0] count;
    logic [PE*BITS-1:0] best, largest;
    logic first, last, take;

    assign first = count == '0;
    assign last = count == LAST;
    // Only the last word of a window needs room in the output register.
    assign in_ready = !last || !out_valid || out_ready;
    assign take = in_valid && in_ready;

    for (genvar i = 0; i < PE; i++) begin : g_channel
        wire [BITS-1:0] now = in_data[i*BITS+:BITS];
        wire [BITS-1:0] held = best[i*BITS+:BITS];
        assign largest[i*BITS+:BITS] =
            first || (now ^ BIAS) > (held ^ BIAS) ? now : held;
    end

    always_ff @(posedge clk) begin
        if (take) best <= largest;
        if (take && last) out_data <= largest;
    end

    always_ff @(posedge clk) begin
        if (rst) begin
            count <= '0;
            out_valid <= 1'b0;
        end else begin
            if (take) count <= last ? '0 : count + 1'b1;
            if (take && last) out_valid <= 1'b1;
            else if (out_ready) out_valid <= 1'b0;
        end
    end
endmodule

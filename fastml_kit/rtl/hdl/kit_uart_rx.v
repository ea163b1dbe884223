// Bytes from a UART line: a start bit, eight data bits with the lowest first, a stop bit.
//
// The line is sampled once, in the middle of each bit. A stop bit of 0 is a fault: noise, another
// rate, or a break; then nothing is taken before the line has been 1 again.
`timescale 1 ns / 1 ps
module kit_uart_rx #(
    parameter DIVISOR = 25  // clock cycles a bit, at least 4
) (
    input  wire       clk,
    input  wire       rst,
    input  wire       line,   // asynchronous; 1 when idle
    output reg  [7:0] data,
    output reg        valid,  // for one cycle
    output reg        fault   // for one cycle
);
    localparam COUNT = $clog2(DIVISOR + 1);
    localparam [31:0] BIT = DIVISOR - 1;
    localparam [31:0] HALF = DIVISOR / 2 - 1;

    localparam [1:0] IDLE = 2'd0, START = 2'd1, DATA = 2'd2, STOP = 2'd3;

    reg [2:0] seen;  // against metastability
    reg [1:0] state;
    reg [COUNT-1:0] wait_for;
    reg [2:0] place;
    wire level = seen[2];
    wire now = wait_for == 0;
    reg high;  // the line has been 1 since the last stop bit

    always @(posedge clk) begin
        seen <= {seen[1:0], line};
        valid <= 1'b0;
        fault <= 1'b0;
        if (rst) begin
            seen <= 3'b111;
            state <= IDLE;
            wait_for <= 0;
            place <= 0;
            high <= 1'b0;
        end else begin
            if (!now) wait_for <= wait_for - 1'b1;
            case (state)
                IDLE: begin
                    if (level) high <= 1'b1;
                    else if (high) begin
                        state <= START;
                        wait_for <= HALF[COUNT-1:0];
                    end
                end
                START:
                if (now) begin
                    // A pulse shorter than half a bit was no start bit.
                    state <= level ? IDLE : DATA;
                    wait_for <= BIT[COUNT-1:0];
                    place <= 0;
                end
                DATA:
                if (now) begin
                    data <= {level, data[7:1]};
                    place <= place + 1'b1;
                    wait_for <= BIT[COUNT-1:0];
                    if (place == 3'd7) state <= STOP;
                end
                default:
                if (now) begin
                    state <= IDLE;
                    high  <= level;
                    valid <= level;
                    fault <= !level;
                end
            endcase
        end
    end
endmodule

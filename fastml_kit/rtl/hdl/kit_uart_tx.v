// Bytes to a UART line: a start bit, eight data bits with the lowest first, a stop bit.
`timescale 1 ns / 1 ps
module kit_uart_tx #(
    parameter DIVISOR = 25  // clock cycles a bit, at least 4
) (
    input  wire       clk,
    input  wire       rst,
    input  wire [7:0] data,
    input  wire       valid,
    output wire       ready,
    output wire       line
);
    localparam COUNT = $clog2(DIVISOR + 1);
    localparam [31:0] BIT = DIVISOR - 1;

    reg [9:0] bits;  // the lowest is on the line
    reg [3:0] left;
    reg [COUNT-1:0] wait_for;

    assign line  = bits[0];
    assign ready = left == 0;

    always @(posedge clk) begin
        if (rst) begin
            bits <= 10'h3ff;
            left <= 0;
            wait_for <= 0;
        end else if (ready) begin
            if (valid) begin
                bits <= {1'b1, data, 1'b0};
                left <= 4'd10;
                wait_for <= BIT[COUNT-1:0];
            end
        end else if (wait_for != 0) begin
            wait_for <= wait_for - 1'b1;
        end else begin
            bits <= {1'b1, bits[9:1]};
            left <= left - 1'b1;
            wait_for <= BIT[COUNT-1:0];
        end
    end
endmodule

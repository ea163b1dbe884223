// Bytes of a frame, the last one marked, to SLIP with a CRC-32; see kit_frame_rx.v. An END comes
// before each frame too: it ends what noise on the line may have begun.
`timescale 1 ns / 1 ps
module kit_frame_tx (
    input wire clk,
    input wire rst,

    input  wire [7:0] in_data,
    input  wire       in_valid,
    input  wire       in_last,
    output wire       in_ready,

    output reg  [7:0] out_data,
    output reg        out_valid,
    input  wire       out_ready
);
    localparam [7:0] END = 8'hc0, ESCAPE = 8'hdb, ESCAPED_END = 8'hdc, ESCAPED_ESCAPE = 8'hdd;
    localparam [31:0] POLYNOMIAL = 32'hedb88320;

    localparam [1:0] IDLE = 2'd0, BODY = 2'd1, CHECK = 2'd2, FINISH = 2'd3;

    reg [1:0] state, place;
    reg [31:0] crc;
    reg [ 3:0] shifts;
    reg follow;  // the second byte of an escaped one
    reg follow_end;

    wire free = !out_valid || out_ready;
    wire [7:0] check = ~crc[7:0];  // during CHECK, which moves the next byte down
    wire [7:0] next = state == CHECK ? check : in_data;
    wire special = next == END || next == ESCAPE;
    assign in_ready = state == BODY && free && !follow && shifts == 0;
    wire send = (in_ready && in_valid) || (state == CHECK && free && !follow && shifts == 0);

    always @(posedge clk) begin
        if (out_ready) out_valid <= 1'b0;
        if (shifts != 0) begin
            crc <= {1'b0, crc[31:1]} ^ (crc[0] ? POLYNOMIAL : 32'd0);
            shifts <= shifts - 1'b1;
        end
        if (send) begin
            out_valid <= 1'b1;
            out_data <= special ? ESCAPE : next;
            follow <= special;
            follow_end <= next == END;
        end
        if (follow && free) begin
            out_valid <= 1'b1;
            out_data <= follow_end ? ESCAPED_END : ESCAPED_ESCAPE;
            follow <= 1'b0;
        end
        case (state)
            IDLE:
            if (in_valid && free) begin
                out_valid <= 1'b1;
                out_data <= END;
                crc <= 32'hffffffff;
                state <= BODY;
            end
            BODY:
            if (in_ready && in_valid) begin
                crc <= crc ^ {24'd0, in_data};
                shifts <= 4'd8;
                place <= 0;
                if (in_last) state <= CHECK;
            end
            CHECK:
            if (send) begin
                crc <= {8'd0, crc[31:8]};
                place <= place + 1'b1;
                if (place == 2'd3) state <= FINISH;
            end
            default:
            if (free && !follow) begin
                out_valid <= 1'b1;
                out_data <= END;
                state <= IDLE;
            end
        endcase
        if (rst) begin
            out_valid <= 1'b0;
            follow <= 1'b0;
            shifts <= 0;
            state <= IDLE;
        end
    end
endmodule

// Frames from bytes: SLIP (RFC 1055) with a CRC-32 (IEEE 802.3, as zlib's) as the last four bytes,
// lowest first. The byte END ends a frame whatever came before it, so that one broken frame never
// costs the next one, and there is no length to wait for in vain.
//
// A frame comes out only once it is whole and its CRC is right. There are two buffers: one is read
// while the other is filled. A frame that ends while both are taken is dropped and counted; so is
// one that is broken, and an answer is asked for. Empty frames mean nothing.
`timescale 1 ns / 1 ps
module kit_frame_rx #(
    parameter SIZE = 256,  // bytes of a frame before its CRC, at most; a power of two
    parameter INDEX = $clog2(SIZE)
) (
    input wire clk,
    input wire rst,

    input wire [7:0] in_data,
    input wire       in_valid,  // at most every tenth cycle
    input wire       in_fault,  // a byte was lost

    output wire             frame,    // one waits
    output wire [  INDEX:0] length,   // its bytes, without the CRC
    input  wire [INDEX-1:0] read_at,
    output reg  [      7:0] read,     // a cycle later
    input  wire             done,     // for one cycle: it is not needed any more

    output reg         complain,  // a broken frame has ended, until `heard`
    input  wire        heard,
    output reg  [15:0] broken,    // how many, and stays at the highest count
    output reg  [15:0] dropped
);
    localparam [7:0] END = 8'hc0, ESCAPE = 8'hdb, ESCAPED_END = 8'hdc, ESCAPED_ESCAPE = 8'hdd;
    localparam [31:0] POLYNOMIAL = 32'hedb88320, RESIDUE = 32'hdebb20e3;
    localparam [31:0] LONGEST = SIZE + 4;

    reg [7:0] memory[0:2*SIZE-1];
    reg [1:0] full;
    reg into, from;  // the buffer that is filled, and the one that is read
    reg [INDEX:0] length_0, length_1;

    // Four bytes wait until it is known that they are no CRC; `count` includes them.
    reg [31:0] last;
    reg [INDEX+1:0] count;
    reg escaped, bad, any, skip;  // skip: part of it found no room
    reg [31:0] crc;
    reg [ 3:0] shifts;

    wire is_end = in_valid && in_data == END;
    wire is_escape = in_valid && in_data == ESCAPE && !escaped;
    wire [7:0] plain = !escaped ? in_data : in_data == ESCAPED_END ? END : ESCAPE;
    wire is_byte = in_valid && !is_end && !is_escape;
    wire room = !full[into];
    wire good = !bad && !escaped && count > 5 && crc == RESIDUE;
    wire store = is_byte && count > 3 && room && count < LONGEST[INDEX+1:0];
    // `count` - 4, of which the lowest bits are an address.
    wire [INDEX+1:0] body = count - 4;

    assign frame  = full[from];
    assign length = from ? length_1 : length_0;

    always @(posedge clk) begin
        if (store) memory[{into, body[INDEX-1:0]}] <= last[7:0];
        read <= memory[{from, read_at}];
    end

    always @(posedge clk) begin
        if (heard) complain <= 1'b0;
        if (done) begin
            full[from] <= 1'b0;
            from <= !from;
        end
        if (shifts != 0) begin
            crc <= {1'b0, crc[31:1]} ^ (crc[0] ? POLYNOMIAL : 32'd0);
            shifts <= shifts - 1'b1;
        end
        if (in_fault) begin
            bad <= 1'b1;
            any <= 1'b1;
        end
        if (is_escape) begin
            escaped <= 1'b1;
            any <= 1'b1;
        end
        if (is_byte) begin
            any <= 1'b1;
            if (!room) skip <= 1'b1;
            escaped <= 1'b0;
            if (escaped && in_data != ESCAPED_END && in_data != ESCAPED_ESCAPE) bad <= 1'b1;
            last <= {plain, last[31:8]};
            crc <= crc ^ {24'd0, plain};
            shifts <= 4'd8;
            if (count == LONGEST[INDEX+1:0]) bad <= 1'b1;
            else count <= count + 1'b1;
        end
        if (is_end) begin
            if (any && good && room && !skip) begin
                full[into] <= 1'b1;
                into <= !into;
                if (into) length_1 <= body[INDEX:0];
                else length_0 <= body[INDEX:0];
            end
            if (any && good && (!room || skip) && dropped != 16'hffff) dropped <= dropped + 1'b1;
            if (any && !good) begin
                complain <= 1'b1;
                if (broken != 16'hffff) broken <= broken + 1'b1;
            end
        end
        if (rst || is_end) begin
            count <= 0;
            escaped <= 1'b0;
            bad <= 1'b0;
            any <= 1'b0;
            skip <= 1'b0;
            crc <= 32'hffffffff;
            shifts <= 0;
        end
        if (rst) begin
            full <= 2'b00;
            into <= 1'b0;
            from <= 1'b0;
            complain <= 1'b0;
            broken <= 0;
            dropped <= 0;
        end
    end
endmodule

//! A PNG writer for grey images of 8 bits. Not a reader, and no other format.

use miniz_oxide::deflate::compress_to_vec_zlib;

/// An image of `width` × `height` shades, row by row.
pub fn grey(width: u32, height: u32, mut shades: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut rows = Vec::with_capacity((width as usize + 1) * height as usize);
    for _ in 0..height {
        // Filter 0: the row as it is.
        rows.push(0);
        rows.extend(shades.by_ref().take(width as usize));
    }
    let mut header = Vec::with_capacity(13);
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    // 8 bits, grey, and the only compression, filter method and interlacing of interest.
    header.extend([8, 0, 0, 0, 0]);

    let mut image = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut image, b"IHDR", &header);
    chunk(&mut image, b"IDAT", &compress_to_vec_zlib(&rows, 6));
    chunk(&mut image, b"IEND", &[]);
    image
}

fn chunk(image: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    image.extend((data.len() as u32).to_be_bytes());
    let start = image.len();
    image.extend(kind);
    image.extend(data);
    let checksum = crc32(&image[start..]);
    image.extend(checksum.to_be_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut value = i as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[i] = value;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::inflate::decompress_to_vec_zlib;

    #[test]
    fn checksums() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b"IEND"), 0xae42_6082);
    }

    #[test]
    fn pixels_come_back() {
        let image = grey(3, 2, 10..16);
        let length = u32::from_be_bytes(image[33..37].try_into().unwrap()) as usize;
        assert_eq!(&image[37..41], b"IDAT");
        assert_eq!(decompress_to_vec_zlib(&image[41..41 + length]).unwrap(), [0, 10, 11, 12, 0, 13, 14, 15]);
        assert_eq!(&image[image.len() - 8..], b"IEND\xae\x42\x60\x82");
    }
}

//! Draws the Mandelbrot set: a typed export that takes numbers and returns a PNG image.

mod png;

/// The most pixels of an image.
const PIXELS_MAX: u64 = 1 << 26;
/// The most iterations of a pixel.
const ITERATIONS_MAX: u32 = 1 << 20;

/// Draws the part of the set around `x`, `y`, as a grey PNG image. At zoom 1 the image is 3 wide.
#[rwasm::export]
fn render(width: u32, height: u32, x: f64, y: f64, zoom: f64, iterations: u32) -> Result<Vec<u8>, String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > PIXELS_MAX {
        return Err(format!("{width} × {height} is not a size from 1 to {PIXELS_MAX} pixels"));
    }
    if iterations == 0 || iterations > ITERATIONS_MAX {
        return Err(format!("{iterations} iterations are not from 1 to {ITERATIONS_MAX}"));
    }
    if !(zoom.is_finite() && zoom > 0.0 && x.is_finite() && y.is_finite()) {
        return Err("the place and the zoom have to be finite, and the zoom greater than 0".to_owned());
    }
    let step = 3.0 / zoom / f64::from(width);
    let left = x - step * f64::from(width - 1) / 2.0;
    let top = y + step * f64::from(height - 1) / 2.0;
    let shades = (0..height).flat_map(|row| {
        let imaginary = top - step * f64::from(row);
        (0..width).map(move |column| shade(left + step * f64::from(column), imaginary, iterations))
    });
    Ok(png::grey(width, height, shades))
}

/// How soon a point is known to lie outside: white at once, black never.
fn shade(real: f64, imaginary: f64, iterations: u32) -> u8 {
    match escape(real, imaginary, iterations) {
        None => 0,
        // The logarithm spreads the first iterations, where most of the image is.
        Some(n) => 255 - (254.0 * f64::from(n).ln_1p() / f64::from(iterations).ln_1p()) as u8,
    }
}

/// The iteration after which z² + c leaves the circle of radius 2, if it does.
fn escape(real: f64, imaginary: f64, iterations: u32) -> Option<u32> {
    let (mut x, mut y) = (0.0f64, 0.0f64);
    for n in 0..iterations {
        let (x2, y2) = (x * x, y * y);
        if x2 + y2 > 4.0 {
            return Some(n);
        }
        (x, y) = (x2 - y2 + real, 2.0 * x * y + imaginary);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points() {
        assert_eq!(escape(0.0, 0.0, 1000), None);
        assert_eq!(escape(-1.0, 0.0, 1000), None);
        assert_eq!(escape(2.0, 2.0, 1000), Some(1));
        assert!(escape(-0.75, 0.1, 1000).is_some_and(|n| (30..40).contains(&n)));
    }

    #[test]
    fn an_image_has_the_size_that_was_asked_for() {
        let image = render(64, 48, -0.5, 0.0, 1.0, 100).unwrap();
        assert_eq!(&image[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!((&image[16..20], &image[20..24]), (&64u32.to_be_bytes()[..], &48u32.to_be_bytes()[..]));
        assert_eq!(image, render(64, 48, -0.5, 0.0, 1.0, 100).unwrap());
    }

    #[test]
    fn bad_requests_are_refused() {
        for (width, height, zoom, iterations) in [
            (0, 1, 1.0, 1),
            (1, 0, 1.0, 1),
            (1 << 16, 1 << 16, 1.0, 1),
            (1, 1, 0.0, 1),
            (1, 1, f64::NAN, 1),
            (1, 1, 1.0, 0),
            (1, 1, 1.0, u32::MAX),
        ] {
            assert!(render(width, height, 0.0, 0.0, zoom, iterations).is_err(), "{width} {height} {zoom} {iterations}");
        }
    }
}

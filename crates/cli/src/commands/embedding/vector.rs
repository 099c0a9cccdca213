//! Vectors: what is one, and how near two are.

use serde_json::Value;

/// Numbers that a vector may have.
const NUMBERS_MAX: usize = 16_384;

/// Why something is no vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum VectorError {
    /// It is something else.
    #[error("it is no array of numbers")]
    NoArray,
    /// There is nothing in it.
    #[error("it has no numbers")]
    Empty,
    /// It is too long.
    #[error("it has more than {NUMBERS_MAX} numbers")]
    TooLong,
    /// A number is too large to be one.
    #[error("number {0} is not finite")]
    NotFinite(usize),
    /// All numbers are zero.
    #[error("all its numbers are zero, so it points nowhere")]
    Zero,
}

/// Reads a vector.
///
/// # Errors
/// When it is none that can be compared with another.
pub(super) fn read(value: &Value) -> Result<Vec<f64>, VectorError> {
    let numbers = value.as_array().ok_or(VectorError::NoArray)?;
    if numbers.is_empty() {
        return Err(VectorError::Empty);
    }
    if numbers.len() > NUMBERS_MAX {
        return Err(VectorError::TooLong);
    }
    let mut vector = Vec::with_capacity(numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        let number = number.as_f64().ok_or(VectorError::NoArray)?;
        // Programs that compare have 32 bits for a number as a rule.
        if !(number as f32).is_finite() {
            return Err(VectorError::NotFinite(at + 1));
        }
        vector.push(number);
    }
    if length(&vector) == 0.0 {
        return Err(VectorError::Zero);
    }
    Ok(vector)
}

/// Returns the cosine of the angle between two vectors of the same length, from -1 to 1.
pub(super) fn cosine(one: &[f64], other: &[f64]) -> f64 {
    let product: f64 = one.iter().zip(other).map(|(a, b)| a * b).sum();
    (product / (length(one) * length(other))).clamp(-1.0, 1.0)
}

fn length(vector: &[f64]) -> f64 {
    vector
        .iter()
        .map(|number| number * number)
        .sum::<f64>()
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_points_somewhere_is_a_vector() {
        assert_eq!(read(&json!([1, -0.5])), Ok(vec![1.0, -0.5]));
        for (value, error) in [
            (json!("[1]"), VectorError::NoArray),
            (json!([1, "2"]), VectorError::NoArray),
            (json!([1, null]), VectorError::NoArray),
            (json!([]), VectorError::Empty),
            (json!([1.0, 1e300]), VectorError::NotFinite(2)),
            (json!([0, 0.0]), VectorError::Zero),
            (json!(vec![1; NUMBERS_MAX + 1]), VectorError::TooLong),
        ] {
            assert_eq!(read(&value), Err(error));
        }
    }

    #[test]
    fn nearness_is_the_cosine_whatever_the_lengths() {
        let near = |one: &[f64], other: &[f64]| (cosine(one, other) * 1e6).round() / 1e6;
        assert_eq!(near(&[1.0, 0.0], &[9.0, 0.0]), 1.0);
        assert_eq!(near(&[1.0, 0.0], &[0.0, 2.0]), 0.0);
        assert_eq!(near(&[1.0, 1.0], &[-3.0, -3.0]), -1.0);
        assert_eq!(near(&[3.0, 4.0], &[4.0, 3.0]), 0.96);
    }
}

//! Medians and percentiles. Pure.

/// Returns the median; of an even number the mean of the middle two, of none 0.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Returns the smallest value that `share` (0 to 1) of all values do not exceed; of none 0.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    let index = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or(0.0)
}

/// Returns the median of the ratios of what was measured in the same round.
pub(crate) fn median_ratio(ours: &[f64], others: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours
        .iter()
        .zip(others)
        .filter(|(_, other)| **other > 0.0)
        .map(|(our, other)| our / other)
        .collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_in_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn percentile_is_a_value_that_occurred() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), 100.0);
        assert_eq!(percentile(&values, 0.99), 198.0);
        assert_eq!(percentile(&values, 1.0), 200.0);
        assert_eq!(percentile(&values, 0.0), 1.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert_eq!(percentile(&[], 0.99), 0.0);
    }

    #[test]
    fn ratio_pairs_the_rounds() {
        // One round was slow for both sides; its ratio is as good as the others.
        assert_eq!(median_ratio(&[10.0, 1.0, 9.0], &[20.0, 2.0, 18.0]), 0.5);
        assert_eq!(median_ratio(&[1.0], &[0.0]), 0.0);
    }
}

//! Typed exports without any grant: the smallest tasks there are. Every function here is a task.

/// Says hello.
#[rwasm::export]
fn greet(name: &str) -> String {
    format!("Hello, {name}!")
}

/// Adds two numbers; the sum wraps around.
#[rwasm::export]
fn add(a: u32, b: u32) -> u32 {
    a.wrapping_add(b)
}

/// Divides, or says why not.
#[rwasm::export]
fn divide(dividend: i64, divisor: i64) -> Result<i64, String> {
    dividend.checked_div(divisor).ok_or_else(|| format!("{dividend} cannot be divided by {divisor}"))
}

/// The least, the mean and the greatest of a list; nothing of an empty list.
#[rwasm::export]
fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let least = values.iter().copied().reduce(f64::min)?;
    let greatest = values.iter().copied().reduce(f64::max)?;
    Some((least, values.iter().sum::<f64>() / values.len() as f64, greatest))
}

/// Returns what it was given.
#[rwasm::export]
fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Says where it runs, in the log and as its result.
#[rwasm::export]
fn whereabouts() -> String {
    let text = format!("task {}, attempt {}, on node {}", rwasm::context::task_id(), rwasm::context::attempt(), rwasm::context::node_id());
    rwasm::log::info!("{text}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rwasm::testing::{self, Context};

    #[test]
    fn functions_are_tested_as_they_are() {
        assert_eq!(greet("Ada"), "Hello, Ada!");
        assert_eq!(add(u32::MAX, 2), 1);
        assert_eq!(divide(7, 2), Ok(3));
        assert_eq!(divide(7, 0), Err("7 cannot be divided by 0".to_owned()));
        assert_eq!(divide(i64::MIN, -1), Err(format!("{} cannot be divided by -1", i64::MIN)));
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(spread(&[]), None);
        assert_eq!(echo(vec![0, 255]), [0, 255]);
    }

    #[test]
    fn the_cluster_has_a_stand_in() {
        testing::set_context(Context { task_id: "t2-3-4".to_owned(), attempt: 2, ..Context::default() });
        assert_eq!(whereabouts(), "task t2-3-4, attempt 2, on node n1");
        assert_eq!(testing::take_log().len(), 1);
    }
}

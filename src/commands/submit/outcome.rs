//! Results as they come: put in order, shown or written, counted.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    time::Duration,
};

use indicatif::ProgressBar;
use rwasm_client::{Call, TaskOutcome};
use rwasm_types::{Code, Error, Result, api::JobRecord};
use rwasm_values::{Role, Value, json, wave};

use crate::ui;

/// How results are shown.
#[derive(Debug)]
pub(crate) struct Form {
    /// As JSON instead of WAVE.
    pub(crate) json: bool,
    /// One line for each task, in their order: the results of `--map`.
    pub(crate) lines: bool,
    /// To a file instead of standard output.
    pub(crate) file: Option<PathBuf>,
}

/// Takes outcomes and shows results.
pub(crate) struct Collector {
    call: Call,
    form: Form,
    file: Option<BufWriter<File>>,
    bar: Option<ProgressBar>,
    /// Results that came before their turn.
    early: BTreeMap<u64, TaskOutcome>,
    next: u64,
    total: u64,
    failed: u64,
    first_error: Option<Error>,
    cpu: Duration,
}

impl Collector {
    pub(crate) fn new(call: Call, form: Form) -> Result<Self> {
        let open = |path: &PathBuf| {
            File::create(path)
                .map(BufWriter::new)
                .map_err(|error| Error::new(Code::IO, format!("cannot write {}: {error}", path.display())))
        };
        let file = form.file.as_ref().map(open).transpose()?;
        let no_bytes = form.file.is_some() && !form.lines && !is_bytes(&call);
        if no_bytes && !form.json {
            return Err(Error::new(
                Code::NOT_BYTES,
                "the result is neither bytes nor a string, so it cannot be written to a file as it is",
            )
            .hint("add --json to write it as JSON"));
        }
        Ok(Self {
            call,
            form,
            file,
            bar: None,
            early: BTreeMap::new(),
            next: 0,
            total: 0,
            failed: 0,
            first_error: None,
            cpu: Duration::ZERO,
        })
    }

    pub(crate) fn is_json(&self) -> bool {
        self.form.json
    }

    /// So many tasks were submitted.
    pub(crate) fn expect(&mut self, total: u64) {
        self.total = total;
        if self.form.lines {
            self.bar = Some(ui::progress_bar(total));
        }
    }

    /// Takes outcomes; shows those whose turn it is.
    pub(crate) fn take(&mut self, outcomes: Vec<TaskOutcome>) -> Result<()> {
        for outcome in outcomes {
            self.cpu += outcome.cpu;
            self.early.insert(outcome.sequence, outcome);
        }
        let mut text = Vec::new();
        while let Some(outcome) = self.early.remove(&self.next) {
            self.next += 1;
            self.show(&outcome, &mut text)?;
        }
        self.write(&text)?;
        if let Some(bar) = &self.bar {
            bar.set_position(self.next + self.early.len() as u64);
            if self.failed > 0 {
                bar.set_message(format!("({} failed)", self.failed));
            }
        }
        Ok(())
    }

    /// Does something that prints, without the progress bar in its way.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn show(&mut self, outcome: &TaskOutcome, text: &mut Vec<u8>) -> Result<()> {
        let error = match &outcome.result {
            Ok(result) => {
                self.show_result(result, text)?;
                outcome.failed.then(|| Error::new(Code::APPLICATION, "the function returned its error case"))
            }
            Err(error) => {
                if self.form.lines {
                    writeln!(text, "{}", serde_json::json!({ "$error": error })).map_err(unwritable)?;
                }
                Some(error.clone())
            }
        };
        if let Some(error) = error {
            self.failed += 1;
            if self.first_error.is_none() {
                self.first_error = Some(if self.form.lines { error.with("line", outcome.sequence + 1) } else { error });
            }
        }
        Ok(())
    }

    fn show_result(&self, result: &bytes::Bytes, text: &mut Vec<u8>) -> Result<()> {
        if self.call.export().role == Role::Command {
            return Ok(());
        }
        let returned = self.call.decode(result)?;
        let ty = self.call.export().signature.result.as_ref();
        if self.form.lines || self.form.json {
            json::write_value(text, ty, &returned)?;
            text.push(b'\n');
            return Ok(());
        }
        if self.form.file.is_some() {
            match raw(returned.value.as_ref()) {
                Some(bytes) => text.extend_from_slice(bytes),
                None => {
                    return Err(
                        Error::new(Code::NOT_BYTES, "the result is neither bytes nor a string").hint("add --json to write it as JSON")
                    );
                }
            }
            return Ok(());
        }
        if ty.is_some() {
            text.extend_from_slice(wave::to_string(ty, &returned)?.as_bytes());
            text.push(b'\n');
        }
        Ok(())
    }

    fn write(&mut self, text: &[u8]) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match &mut self.file {
            Some(file) => file.write_all(text).map_err(unwritable),
            None => self.aside(|| ui::out(text)),
        }
    }

    /// The job was cancelled: nothing more is shown.
    pub(crate) fn abandon(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }

    /// The job ended. What is to be reported, if it did not succeed.
    pub(crate) fn finish(&mut self, record: &JobRecord) -> Result<Option<Error>> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(file) = &mut self.file {
            file.flush().map_err(unwritable)?;
        }
        if self.form.lines {
            let took = Duration::from_millis(record.ended_ms.unwrap_or(record.submitted_ms).saturating_sub(record.submitted_ms));
            let took = rwasm_types::format_duration(took);
            let cpu = rwasm_types::format_duration(self.cpu);
            ui::note(&format!("{} tasks in {took}, {} failed, {cpu} of processor time", self.total, self.failed));
        }
        let error = self.first_error.take().or_else(|| record.error.clone());
        Ok(match error {
            Some(first) if self.form.lines && self.failed > 0 => {
                let line = first.field("line").unwrap_or_default().to_owned();
                let message = format!(
                    "{} of {} tasks failed; the first, line {line}: {} ({})",
                    self.failed,
                    self.total,
                    first.message(),
                    first.code()
                );
                Some(Error::new(Code::TASKS_FAILED, message).with("failed", self.failed).with("line", line).with("cause", first.code()))
            }
            other => other,
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "its only use is map_err")]
fn unwritable(error: std::io::Error) -> Error {
    Error::new(Code::IO, format!("cannot write the results: {error}"))
}

/// Whether a result is bytes or a string, also inside the success of a `result`.
fn is_bytes(call: &Call) -> bool {
    use rwasm_values::{Scalar, Type};
    let plain = |ty: &Type| matches!(ty, Type::String) || matches!(ty, Type::List(element) if element.scalar() == Some(Scalar::U8));
    match call.export().signature.result.as_ref() {
        Some(Type::Result(types)) => types.ok.as_ref().is_some_and(plain),
        Some(ty) => plain(ty),
        None => false,
    }
}

/// The bytes of a value that is bytes or a string; of the error case of a `result`, its text.
fn raw(value: Option<&Value>) -> Option<&[u8]> {
    match value? {
        Value::String(text) => Some(text.as_bytes()),
        Value::Flat(flat) => Some(flat.bytes()),
        Value::Result(Ok(Some(value))) => raw(Some(value)),
        Value::Result(Err(_)) => Some(&[]),
        _ => None,
    }
}

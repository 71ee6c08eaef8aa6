//! Results as they come: put in order, shown or written, counted.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use indicatif::ProgressBar;
use rwasm_client::{Call, TaskOutcome};
use rwasm_types::{Code, Error, Result, api::JobRecord};
use rwasm_values::{Export, Returned, Role, Value, json, wave};

use super::file::ResultFile;
use crate::ui;

/// How results are shown.
#[derive(Debug)]
pub(crate) struct Form {
    /// As JSON instead of WAVE.
    pub(crate) json: bool,
    /// One line for each task, in their order: the results of `--map`. The numbers are those of the input's lines.
    pub(crate) lines: Option<Vec<u32>>,
    /// To a file instead of standard output.
    pub(crate) file: Option<PathBuf>,
}

impl Form {
    /// Checks that results of an export can be shown like this.
    fn check(&self, export: &Export) -> Result<()> {
        let not_bytes = |message, hint| Err(Error::new(Code::NOT_BYTES, message).hint(hint));
        if self.file.is_none() {
            return Ok(());
        }
        if export.role == Role::Command {
            return not_bytes("a command has no result that could be written to a file", "redirect its standard output with the shell");
        }
        if self.lines.is_none() && !self.json && !is_bytes(export) {
            let message = "the result is neither bytes nor a string, so it cannot be written to a file as it is";
            return not_bytes(message, "add --json to write it as JSON");
        }
        Ok(())
    }
}

/// Takes outcomes and shows results.
pub(crate) struct Collector {
    call: Call,
    form: Form,
    file: Option<ResultFile>,
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
    /// Checks that results can be shown as is asked for. `call` decodes them; it need not belong to a job yet.
    pub(crate) fn new(call: Call, form: Form) -> Result<Self> {
        form.check(call.export())?;
        let file = form.file.as_deref().map(ResultFile::open).transpose()?;
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
        if self.form.lines.is_some() {
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
                let unshown = self.show_result(result, text)?;
                outcome.failed.then(|| {
                    let message = "the function returned its error case";
                    Error::new(Code::APPLICATION, unshown.map_or_else(|| message.to_owned(), |error| format!("{message}: {error}")))
                })
            }
            Err(error) => {
                if self.form.lines.is_some() {
                    text.extend_from_slice(serde_json::json!({ "$error": error }).to_string().as_bytes());
                    text.push(b'\n');
                }
                Some(error.clone())
            }
        };
        if let Some(error) = error {
            self.failed += 1;
            if self.first_error.is_none() {
                let sequence = usize::try_from(outcome.sequence).unwrap_or(usize::MAX);
                self.first_error = Some(match self.form.lines.as_ref().and_then(|lines| lines.get(sequence)) {
                    Some(line) => error.with("line", line),
                    None => error,
                });
            }
        }
        Ok(())
    }

    /// Adds a result to the text. Gives what has no place there: the error case where bytes are written as they are.
    fn show_result(&self, result: &bytes::Bytes, text: &mut Vec<u8>) -> Result<Option<String>> {
        if self.call.export().role == Role::Command {
            return Ok(None);
        }
        let returned = self.call.decode(result)?;
        let ty = self.call.export().signature.result.as_ref();
        if self.form.lines.is_some() || self.form.json {
            json::write_value(text, ty, &returned)?;
            text.push(b'\n');
            return Ok(None);
        }
        let as_wave = |returned: &Returned| wave::to_string(ty, returned);
        if self.form.file.is_some() {
            let Some(bytes) = raw(returned.value.as_ref()) else { return as_wave(&returned).map(Some) };
            text.extend_from_slice(bytes);
            return Ok(None);
        }
        if ty.is_some() {
            text.extend_from_slice(as_wave(&returned)?.as_bytes());
            text.push(b'\n');
        }
        Ok(None)
    }

    fn write(&mut self, text: &[u8]) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match &mut self.file {
            Some(file) => file.write(text),
            None => self.aside(|| ui::out(text)),
        }
    }

    /// The job did not come to its end: nothing more is shown. Lines that were to be written to a file are kept beside it.
    pub(crate) fn abandon(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
        let Some(file) = self.file.take() else { return };
        if self.form.lines.is_none() {
            return;
        }
        match file.keep_part() {
            Ok(Some(part)) => ui::note(&format!("the first {} results are in {}", self.next, part.display())),
            Ok(None) => {}
            Err(error) => ui::error(&error, self.form.json),
        }
    }

    /// The job ended. What is to be reported, if it did not succeed.
    pub(crate) fn finish(&mut self, record: &JobRecord) -> Result<Option<Error>> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(file) = self.file.take() {
            // A call that failed has nothing to write; what the file held before is better than nothing.
            if self.form.lines.is_some() || self.failed == 0 || file.is_begun() {
                file.finish()?;
            }
        }
        if self.form.lines.is_some() {
            let took = Duration::from_millis(record.ended_ms.unwrap_or(record.submitted_ms).saturating_sub(record.submitted_ms));
            let took = rwasm_types::format_duration(took);
            let cpu = rwasm_types::format_duration(self.cpu);
            ui::note(&format!("{} tasks in {took}, {} failed, {cpu} of processor time", self.total, self.failed));
        }
        // Of a job that was stopped, the first task may be one that was cancelled for that: why it was stopped says more.
        let cancelled = record.tasks.failed == 0 && self.first_error.as_ref().is_some_and(|first| first.code() == Code::CANCELLED);
        if let Some(stopped) = record.error.as_ref().filter(|error| cancelled && error.code() != Code::CANCELLED) {
            return Ok(Some(stopped.clone()));
        }
        let error = self.first_error.take().or_else(|| record.error.clone());
        Ok(match error {
            Some(first) if self.form.lines.is_some() && self.failed > 0 => {
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

/// Whether a result is bytes or a string, also inside the success of a `result`.
fn is_bytes(export: &Export) -> bool {
    use rwasm_values::{Scalar, Type};
    let plain = |ty: &Type| matches!(ty, Type::String) || matches!(ty, Type::List(element) if element.scalar() == Some(Scalar::U8));
    match export.signature.result.as_ref() {
        Some(Type::Result(types)) => types.ok.as_ref().is_some_and(plain),
        Some(ty) => plain(ty),
        None => false,
    }
}

/// The bytes of a value that is bytes or a string, also inside the success of a `result`.
fn raw(value: Option<&Value>) -> Option<&[u8]> {
    match value? {
        Value::String(text) => Some(text.as_bytes()),
        Value::Flat(flat) => Some(flat.bytes()),
        Value::Result(Ok(Some(value))) => raw(Some(value)),
        _ => None,
    }
}

// Small parts that every page is made of.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { count } from "../format.ts";
import { href } from "../router.ts";
import { type Counts, type Failure, TASK_STATES } from "../types.ts";

export function Badge({ state }: { state: string }) {
  return <span class={`badge ${state}`}>{state}</span>;
}

export function Problem({ failure }: { failure: Failure | null }) {
  if (!failure) return null;
  return (
    <div class="problem" role="alert">
      <span>
        {failure.message}
        {failure.hint ? <span class="soft">; {failure.hint}</span> : null}
      </span>
      {failure.code ? <code>{failure.code}</code> : null}
    </div>
  );
}

/** What an answer does not tell. */
export function Missing({ lines }: { lines: string[] }) {
  if (lines.length === 0) return null;
  return (
    <div class="missing" role="status">
      <strong>Not whole:</strong> {lines.join("; ")}
    </div>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="empty">{children}</div>;
}

export function Panel({ title, side, children, flush }: { title?: ComponentChildren; side?: ComponentChildren; children: ComponentChildren; flush?: boolean }) {
  return (
    <section class={flush ? "panel flush" : "panel"}>
      {title ? (
        <header>
          <h2>{title}</h2>
          {side}
        </header>
      ) : null}
      {children}
    </section>
  );
}

export function Facts({ rows }: { rows: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** How much of something is used. */
export function Meter({ label, used, all, text }: { label: string; used: number; all: number; text: string }) {
  const share = all > 0 ? Math.min(1, used / all) : 0;
  return (
    <div class="meter">
      <div class="meter-words">
        <span>{label}</span>
        <span class="number">{text}</span>
      </div>
      <div class="meter-bar" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={all} aria-valuenow={used} aria-valuetext={text}>
        <div style={{ width: `${share * 100}%` }} />
      </div>
    </div>
  );
}

/** Tasks by state, as one bar. */
export function Progress({ tasks, words }: { tasks: Counts; words?: boolean }) {
  const all = TASK_STATES.reduce((sum, state) => sum + tasks[state], 0);
  const order = (["succeeded", "failed", "cancelled", "running", "queued", "compiling"] as const).filter((state) => tasks[state] > 0);
  const text = order.map((state) => `${count(tasks[state])} ${state}`).join(", ") || "no tasks";
  return (
    <div class="progress">
      <div class="progress-bar" role="img" aria-label={text} title={text}>
        {order.map((state) => (
          <div key={state} class={`fill ${state}`} style={{ width: `${(tasks[state] / all) * 100}%` }} />
        ))}
      </div>
      {words ? (
        <div class="progress-words">
          {order.map((state) => (
            <span key={state}>
              <i class={`dot ${state}`} />
              <b class="number">{count(tasks[state])}</b> {state}
            </span>
          ))}
        </div>
      ) : null}
    </div>
  );
}

export function JobLink({ id }: { id: string }) {
  return <a href={href(["jobs", id])}>{id}</a>;
}

export function TaskLink({ id }: { id: string }) {
  return <a href={href(["tasks", id])}>{id}</a>;
}

export function ErrorText({ failure }: { failure: Failure | null }) {
  if (!failure) return null;
  return (
    <span class="error-text" title={failure.message}>
      <code>{failure.code}</code> {failure.message}
    </span>
  );
}

/** A question before something that cannot be taken back. */
export function Confirm({ open, title, yes, onYes, onNo, children }: {
  open: boolean;
  title: string;
  yes: string;
  onYes: () => void;
  onNo: () => void;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open && !dialog.current?.open) dialog.current?.showModal();
    if (!open) dialog.current?.close();
  }, [open]);
  return (
    <dialog ref={dialog} onCancel={onNo} aria-labelledby="confirm-title">
      <h2 id="confirm-title">{title}</h2>
      <p>{children}</p>
      <div class="row end">
        <button type="button" onClick={onNo}>
          Keep it
        </button>
        <button type="button" class="danger" onClick={onYes}>
          {yes}
        </button>
      </div>
    </dialog>
  );
}

export function Select({ label, value, options, onChange }: {
  label: string;
  value: string;
  options: [string, string][];
  onChange: (value: string) => void;
}) {
  return (
    <label class="field inline">
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A text to search for; told when whoever types pauses. */
export function Search({ label, value, onChange, ...rest }: { label: string; value: string; onChange: (value: string) => void } & Omit<
  JSX.InputHTMLAttributes<HTMLInputElement>,
  "onChange" | "value" | "label"
>) {
  const timer = useRef<ReturnType<typeof setTimeout>>();
  return (
    <label class="field inline grow">
      <span>{label}</span>
      <input
        type="search"
        defaultValue={value}
        onInput={(event) => {
          const text = event.currentTarget.value;
          clearTimeout(timer.current);
          timer.current = setTimeout(() => onChange(text), 250);
        }}
        {...rest}
      />
    </label>
  );
}

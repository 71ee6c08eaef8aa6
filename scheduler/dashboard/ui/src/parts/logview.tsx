// Output as it comes: followed, searched, and only as much of it in the page as is in sight.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { lines } from "../api.ts";
import { count } from "../format.ts";
import type { Failure } from "../types.ts";
import { failureOf } from "../use.ts";
import { Problem, Search } from "./parts.tsx";

interface Line {
  task: number;
  attempt: number;
  stream: "stdout" | "stderr";
  text: string;
  error?: Failure;
}

const LINES_MAX = 20_000;
const ROW = 20;

export function LogView({ job, task, follow }: { job: string; task?: string | undefined; follow: boolean }) {
  const [search, setSearch] = useState("");
  const [failure, setFailure] = useState<Failure | null>(null);
  const [state, setState] = useState<{ lines: Line[]; dropped: number; ended: boolean }>({ lines: [], dropped: 0, ended: false });
  const [view, setView] = useState({ top: 0, height: 400 });
  const box = useRef<HTMLDivElement>(null);
  const stick = useRef(true);

  useEffect(() => {
    const abort = new AbortController();
    let waiting: Line[] = [];
    let frame = 0;
    setState({ lines: [], dropped: 0, ended: false });
    setFailure(null);
    const flush = () => {
      frame = 0;
      const came = waiting;
      waiting = [];
      setState((old) => {
        const all = old.lines.concat(came);
        const over = Math.max(0, all.length - LINES_MAX);
        return { ...old, lines: over ? all.slice(over) : all, dropped: old.dropped + over };
      });
    };
    const take = (came: Line[]) => {
      const last = came.at(-1);
      if (last?.error) {
        setFailure(last.error);
        came = came.slice(0, -1);
      }
      waiting = waiting.concat(came);
      frame ||= requestAnimationFrame(flush);
    };
    lines<Line>(`jobs/${job}/logs`, { task, follow, search }, abort.signal, take).then(
      () => setState((old) => ({ ...old, ended: true })),
      (error: unknown) => {
        if (!abort.signal.aborted) setFailure(failureOf(error));
      },
    );
    return () => {
      cancelAnimationFrame(frame);
      abort.abort();
    };
  }, [job, task, follow, search]);

  useLayoutEffect(() => {
    const element = box.current;
    if (element && stick.current) element.scrollTop = element.scrollHeight;
  }, [state.lines]);

  const shown = state.lines;
  const first = Math.max(0, Math.floor(view.top / ROW) - 20);
  const last = Math.min(shown.length, Math.ceil((view.top + view.height) / ROW) + 20);
  const mixed = task === undefined || task === "";
  return (
    <div class="logs">
      <div class="filters">
        <Search label="Search" value={search} placeholder="lines that hold a text" onChange={setSearch} />
        <span class="soft" role="status">
          {count(shown.length)} line{shown.length === 1 ? "" : "s"}
          {state.dropped > 0 ? `, ${count(state.dropped)} earlier ones not kept here` : ""}
          {state.ended ? "" : follow ? ", following" : ", reading"}
        </span>
      </div>
      <Problem failure={failure} />
      <div
        class="log-box"
        ref={box}
        role="log"
        tabIndex={0}
        aria-label="Output"
        onScroll={(event) => {
          const element = event.currentTarget;
          stick.current = element.scrollHeight - element.scrollTop - element.clientHeight < ROW * 2;
          setView({ top: element.scrollTop, height: element.clientHeight });
        }}
      >
        {shown.length === 0 ? (
          <div class="empty">{state.ended ? (search ? "No line holds the text." : "It wrote nothing.") : "Nothing yet."}</div>
        ) : (
          <div class="log-rows" style={{ height: `${shown.length * ROW}px` }}>
            <div style={{ transform: `translateY(${first * ROW}px)` }}>
              {shown.slice(first, last).map((line, index) => (
                <div key={state.dropped + first + index} class={`log-line ${line.stream}`}>
                  {mixed ? <span class="log-task">{line.task}</span> : null}
                  <span>{line.text || " "}</span>
                </div>
              ))}
            </div>
          </div>
        )}
      </div>
    </div>
  );
}

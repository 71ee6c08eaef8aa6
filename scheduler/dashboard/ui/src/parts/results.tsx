// Results of a job that was submitted from here.

import { useEffect, useState } from "preact/hooks";
import { bytes, count } from "../format.ts";
import { useLive } from "../live.ts";
import type { ResultRow, Results } from "../types.ts";
import { useGet, useNow } from "../use.ts";
import { Badge, Empty, Panel, Problem, TaskLink } from "./parts.tsx";

const LINE_MAX = 90;
const TEXT_MAX = 4000;

function Value({ row }: { row: ResultRow }) {
  if (row.error) return <span class="error-text"><code>{row.error.code}</code> {row.error.message}</span>;
  if (row.left_out_bytes) return <span class="soft">{bytes(row.left_out_bytes)}, too large to be kept here</span>;
  if (row.value === undefined) return <span class="soft">no result</span>;
  const line = JSON.stringify(row.value) ?? "";
  const text = line.length <= LINE_MAX ? line : JSON.stringify(row.value, null, 1);
  return <pre class="value-text">{text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}… (${bytes(text.length)})` : text}</pre>;
}

export function ResultsView({ job }: { job: string }) {
  const { version } = useLive();
  const now = useNow(500);
  // Once all is there, nothing more is asked for.
  const [all, setAll] = useState("");
  const { data, failure } = useGet<Results>(`jobs/${job}/results`, { limit: 200 }, all === job ? "all" : `${version} ${now}`);
  useEffect(() => {
    if (data?.ended) setAll(job);
  }, [job, data?.ended]);
  if (failure?.code === "RW0003") {
    return <Empty>No results are kept here. They go to whoever submits; this page keeps those of jobs that were submitted through it.</Empty>;
  }
  return (
    <Panel title="Results" side={<span class="soft" role="status">{data ? `${count(data.total)} so far${data.ended ? ", all" : ""}` : ""}</span>}>
      <Problem failure={failure} />
      {data && data.rows.length === 0 ? <Empty>{data.ended ? "The job ended without results." : "Nothing yet."}</Empty> : null}
      <ul class="results" aria-live="polite">
        {data?.rows.map((row) => (
          <li key={row.task}>
            <TaskLink id={row.task} />
            <Badge state={row.failed ? "failed" : "succeeded"} />
            <Value row={row} />
          </li>
        ))}
      </ul>
      {data && data.total > data.rows.length ? <p class="soft">The first {count(data.rows.length)} of {count(data.total)} are shown.</p> : null}
    </Panel>
  );
}

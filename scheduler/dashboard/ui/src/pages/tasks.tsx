// Tasks: all of them in pages, and one with why it is where it is.

import type { ComponentChildren } from "preact";
import { cpu, duration, time, ago, digest, count } from "../format.ts";
import { useLive } from "../live.ts";
import { LogView } from "../parts/logview.tsx";
import { Badge, Empty, ErrorText, Facts, JobLink, Missing, Panel, Problem, Search, Select, TaskLink } from "../parts/parts.tsx";
import { type Column, Table } from "../parts/table.tsx";
import { href, setQuery, usePlace } from "../router.ts";
import { TASK_STATES, type Task } from "../types.ts";
import { useGet, useNow, usePages } from "../use.ts";

function took(task: Task, now: number): string {
  if (!task.started_ms) return "";
  return duration((task.ended_ms ?? now) - task.started_ms);
}

/** Changes when tasks may have: what the stream of events last told of them. */
export function useTaskTurn(): string {
  const { summary } = useLive();
  return JSON.stringify(summary?.tasks ?? {});
}

export function TaskTable({ job, state, node, text, code, empty }: {
  job?: string | undefined;
  state?: string | undefined;
  node?: string | undefined;
  text?: string | undefined;
  code?: string | undefined;
  empty: ComponentChildren;
}) {
  const turn = useTaskTurn();
  const now = useNow();
  const tasks = usePages<Task>("tasks", { job, state, node, export: text, code }, turn);
  const columns: Column<Task>[] = [
    { title: "Task", width: "minmax(7.5rem, 1fr)", cell: (task) => <TaskLink id={task.id} /> },
    { title: "State", width: "6.6rem", cell: (task) => <Badge state={task.state} /> },
    { title: "Export", width: "minmax(6rem, 1.6fr)", cell: (task) => <code class="clip">{task.export}</code>, wide: true },
    { title: "Node", width: "4rem", cell: (task) => task.node ?? "", wide: true },
    { title: "Attempt", width: "4.5rem", cell: (task) => task.attempt, number: true, wide: true },
    { title: "Took", width: "6rem", cell: (task) => took(task, now), number: true },
    { title: "Submitted", width: "7.5rem", cell: (task) => time(task.queued_ms), number: true, wide: true },
    { title: "Error", width: "minmax(6rem, 2fr)", cell: (task) => <ErrorText failure={task.error} />, wide: true },
  ];
  return (
    <>
      <Problem failure={tasks.failure} />
      <Missing lines={tasks.missing} />
      <p class="soft count" role="status">{tasks.loading ? "Loading" : `${count(tasks.total)} task${tasks.total === 1 ? "" : "s"}`}</p>
      <Table label="Tasks" columns={columns} rows={tasks.rows} nameOf={(task) => task.id} total={tasks.total} more={tasks.more} empty={tasks.loading ? "" : empty} />
    </>
  );
}

export function Tasks() {
  const { query } = usePlace();
  const of = (name: string) => query.get(name) ?? "";
  return (
    <>
      <h1>Tasks</h1>
      <div class="filters">
        <Select label="State" value={of("state")} options={[["", "any"], ...TASK_STATES.map((state): [string, string] => [state, state])]} onChange={(state) => setQuery({ state })} />
        <Search label="Export" value={of("export")} placeholder="part of a name" onChange={(text) => setQuery({ export: text })} />
        <Search label="Job" value={of("job")} placeholder="j1-7" size={8} pattern="j[0-9]+-[0-9]+" onChange={(job) => setQuery({ job })} />
        <Search label="Node" value={of("node")} placeholder="n1" size={5} onChange={(node) => setQuery({ node })} />
        <Search label="Error" value={of("code")} placeholder="RW0401" size={8} onChange={(code) => setQuery({ code })} />
      </div>
      <TaskTable job={of("job")} state={of("state")} node={of("node")} text={of("export")} code={of("code")} empty="No task fits." />
    </>
  );
}

export function TaskPage({ id }: { id: string }) {
  const turn = useTaskTurn();
  const now = useNow();
  const { data: task, failure } = useGet<Task>(`tasks/${id}`, {}, turn);
  const why = useGet<{ why: string }>(`why/${id}`, {}, `${turn} ${task?.state === "running" ? Math.floor(now / 2000) : ""}`);
  const [, job, sequence] = /^t(\d+-\d+)-(\d+)$/.exec(id) ?? [];
  if (!task) return failure ? <Problem failure={failure} /> : <Empty>Loading</Empty>;
  return (
    <>
      <p class="crumbs">
        <a href={href(["jobs", task.job])}>Job {task.job}</a>
      </p>
      <div class="title">
        <h1>{task.id}</h1>
        <Badge state={task.state} />
      </div>
      <Panel>
        <p class="why" aria-live="polite">{why.data?.why ?? "…"}</p>
        <Facts
          rows={[
            ["Export", <code>{task.export}</code>],
            ["Job", <JobLink id={task.job} />],
            ["Artifact", <a href={href(["artifacts", task.artifact])}><code>{digest(task.artifact)}</code></a>],
            ["Node", task.node ?? "none yet"],
            ["Attempt", task.attempt],
            ["Submitted", `${time(task.queued_ms)} (${ago(task.queued_ms, now)})`],
            ["Waited", task.started_ms ? duration(task.started_ms - task.queued_ms) : duration(now - task.queued_ms)],
            ["Ran", took(task, now) || "not yet"],
            ["Processor time", task.ended_ms ? cpu(task.cpu_us) : "told at its end"],
          ]}
        />
        <Problem failure={task.error} />
      </Panel>
      <Panel title="Output" flush>
        <LogView job={`j${job ?? ""}`} task={sequence} follow />
      </Panel>
    </>
  );
}

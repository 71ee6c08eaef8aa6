// The cluster at a glance.

import { useMemo } from "preact/hooks";
import { bytes, count, duration, ago, plural, short } from "../format.ts";
import { useLive } from "../live.ts";
import { Chart } from "../parts/chart.tsx";
import { Empty, ErrorText, JobLink, Meter, Missing, Panel, Progress, Badge, TaskLink } from "../parts/parts.tsx";
import { href } from "../router.ts";
import type { Node, Page, Task } from "../types.ts";
import { useGet } from "../use.ts";

function sum(nodes: Node[], of: (node: Node) => number): number {
  return nodes.filter((node) => node.alive).reduce((sum, node) => sum + of(node), 0);
}

export function Overview() {
  const { summary, nodes, jobs, use, version } = useLive();
  const failed = summary?.tasks.failed ?? 0;
  const failures = useGet<Page<Task>>("tasks", { state: "failed", limit: 6 }, failed);
  const alive = nodes.filter((node) => node.alive).length;
  const running = [...jobs.values()].filter((job) => job.state === "running");
  const recent = (running.length > 0 ? running : [...jobs.values()]).slice(0, 6);
  const ended = summary?.ended_per_second ?? [];
  const rate = ended.slice(-5).reduce((sum, count) => sum + count, 0) / 5;
  const chart = useMemo(() => {
    const at = ended.map((_, index) => (summary?.now_s ?? 0) - ended.length + index);
    return { at, lines: [{ label: "tasks a second", colour: "--accent", values: ended, fill: true }] };
  }, [version]);
  const resources = useMemo(
    () => ({
      at: use.map((sample) => sample.at),
      lines: [
        { label: "cores", colour: "--accent", values: use.map((sample) => sample.cpu) },
        { label: "memory", colour: "--queued", values: use.map((sample) => sample.memory) },
      ],
    }),
    [version],
  );
  const cores = [sum(nodes, (node) => Number(node.used.cpu)), sum(nodes, (node) => Number(node.capacity.cpu))] as const;
  const memory = [sum(nodes, (node) => node.used.memory), sum(nodes, (node) => node.capacity.memory)] as const;

  return (
    <>
      <h1>Overview</h1>
      <Missing lines={summary?.missing ?? []} />
      <div class="tiles">
        <a class="tile" href={href(["nodes"])}>
          <span>Nodes</span>
          <b class="number">{count(alive)}</b>
          <small class={alive < nodes.length ? "bad" : ""}>{alive < nodes.length ? `${nodes.length - alive} lost within the hour` : "all alive"}</small>
        </a>
        <a class="tile" href={href(["tasks"], { state: "running" })}>
          <span>Running</span>
          <b class="number">{count(summary?.tasks.running ?? 0)}</b>
          <small>{plural(running.length, "job")}</small>
        </a>
        <a class="tile" href={href(["tasks"], { state: "queued" })}>
          <span>Waiting</span>
          <b class="number">{count((summary?.tasks.queued ?? 0) + (summary?.tasks.compiling ?? 0))}</b>
          <small>{plural(summary?.tasks.compiling ?? 0, "task")} compiling</small>
        </a>
        <a class="tile" href={href(["timeline"])}>
          <span>Throughput</span>
          <b class="number">{short(rate)}</b>
          <small>tasks a second</small>
        </a>
        <a class="tile" href={href(["tasks"], { state: "failed" })}>
          <span>Failed</span>
          <b class={failed > 0 ? "number bad" : "number"}>{count(failed)}</b>
          <small>of {count(Object.values(summary?.tasks ?? {}).reduce((sum, count) => sum + count, 0))} remembered</small>
        </a>
      </div>

      <Panel title="Tasks that ended each second" side={<span class="soft">last five minutes</span>}>
        <Chart label="Tasks that ended each second" at={chart.at} lines={chart.lines} format={(value) => short(value)} />
      </Panel>

      <div class="columns">
        <Panel title="Resources" side={<span class="soft">held by tasks</span>}>
          <Meter label="Cores" used={cores[0]} all={cores[1]} text={`${Number(cores[0].toFixed(2))} of ${cores[1]}`} />
          <Meter label="Memory" used={memory[0]} all={memory[1]} text={`${bytes(memory[0])} of ${bytes(memory[1])}`} />
          {use.length > 2 ? (
            <Chart label="Use of cores and memory" at={resources.at} lines={resources.lines} height={110} max={1} format={(value) => `${Math.round(value * 100)} %`} />
          ) : null}
        </Panel>

        <Panel title={running.length > 0 ? "Running jobs" : "Recent jobs"} side={<a href={href(["jobs"])}>All jobs</a>}>
          {recent.length === 0 ? (
            <Empty>
              Nothing was submitted yet. <a href={href(["submit"])}>Submit a .wasm</a>
            </Empty>
          ) : (
            <ul class="list">
              {recent.map((job) => (
                <li key={job.id}>
                  <div class="row">
                    <JobLink id={job.id} />
                    <span class="clip grow">{job.name}</span>
                    <Badge state={job.state} />
                  </div>
                  <Progress tasks={job.tasks} />
                </li>
              ))}
            </ul>
          )}
        </Panel>
      </div>

      <Panel title="Recent failures" side={<a href={href(["tasks"], { state: "failed" })}>All failures</a>}>
        {(failures.data?.rows.length ?? 0) === 0 ? (
          <Empty>No task failed.</Empty>
        ) : (
          <ul class="list">
            {failures.data?.rows.map((task) => (
              <li key={task.id} class="row">
                <TaskLink id={task.id} />
                <code class="clip">{task.export}</code>
                <span class="clip grow">
                  <ErrorText failure={task.error} />
                </span>
                <span class="soft nowrap">{task.ended_ms ? ago(task.ended_ms) : ""}</span>
                <span class="soft nowrap wide-only">{task.started_ms && task.ended_ms ? duration(task.ended_ms - task.started_ms) : ""}</span>
              </li>
            ))}
          </ul>
        )}
      </Panel>
    </>
  );
}

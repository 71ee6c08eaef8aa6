// Jobs: all of them in pages, and one with its tasks, output, results, time and artifacts.

import { useState } from "preact/hooks";
import { post } from "../api.ts";
import { ago, count, duration, time } from "../format.ts";
import { useLive } from "../live.ts";
import { LogView } from "../parts/logview.tsx";
import { ArtifactCard } from "../parts/artifact.tsx";
import { Badge, Confirm, Empty, ErrorText, Facts, JobLink, Missing, Panel, Problem, Progress, Search, Select } from "../parts/parts.tsx";
import { ResultsView } from "../parts/results.tsx";
import { type Column, Table } from "../parts/table.tsx";
import { Timeline } from "../parts/timeline.tsx";
import { href, setQuery, usePlace } from "../router.ts";
import { type Failure, JOB_STATES, type Job } from "../types.ts";
import { failureOf, useGet, useNow, usePages } from "../use.ts";
import { TaskTable, useTaskTurn } from "./tasks.tsx";

function total(job: Job): number {
  return Object.values(job.tasks).reduce((sum, count) => sum + count, 0);
}

export function Jobs() {
  const { query } = usePlace();
  const { jobs: live, version } = useLive();
  const now = useNow();
  const of = (name: string) => query.get(name) ?? "";
  const newest = [...live.keys()].length;
  const jobs = usePages<Job>("jobs", { state: of("state"), name: of("name") }, `${newest} ${of("state") ? Math.floor(version / 4) : ""}`);
  const rows = jobs.rows.map((job) => live.get(job.id) ?? job);
  const columns: Column<Job>[] = [
    { title: "Job", width: "minmax(5rem, 0.7fr)", cell: (job) => <JobLink id={job.id} /> },
    { title: "State", width: "6.6rem", cell: (job) => <Badge state={job.state} /> },
    { title: "Name", width: "minmax(6rem, 2fr)", cell: (job) => <span class="clip">{job.name}</span>, wide: true },
    { title: "Progress", width: "minmax(5rem, 1.4fr)", cell: (job) => <Progress tasks={job.tasks} /> },
    { title: "Tasks", width: "6rem", cell: (job) => count(total(job)), number: true },
    { title: "Took", width: "6.5rem", cell: (job) => duration((job.ended_ms ?? now) - job.submitted_ms), number: true, wide: true },
    { title: "Submitted", width: "8rem", cell: (job) => ago(job.submitted_ms, now), number: true, wide: true },
    { title: "Error", width: "minmax(5rem, 1.6fr)", cell: (job) => <ErrorText failure={job.error} />, wide: true },
  ];
  return (
    <>
      <h1>Jobs</h1>
      <div class="filters">
        <Select label="State" value={of("state")} options={[["", "any"], ...JOB_STATES.map((state): [string, string] => [state, state])]} onChange={(state) => setQuery({ state })} />
        <Search label="Name" value={of("name")} placeholder="part of a name" onChange={(name) => setQuery({ name })} />
        <a class="button primary" href={href(["submit"])}>Submit</a>
      </div>
      <Problem failure={jobs.failure} />
      <Missing lines={jobs.missing} />
      <p class="soft count" role="status">{jobs.loading ? "Loading" : `${count(jobs.total)} job${jobs.total === 1 ? "" : "s"}`}</p>
      <Table label="Jobs" columns={columns} rows={rows} nameOf={(job) => job.id} total={jobs.total} more={jobs.more} empty={jobs.loading ? "" : "No job fits."} />
    </>
  );
}

const TABS: [string, string][] = [
  ["tasks", "Tasks"],
  ["output", "Output"],
  ["results", "Results"],
  ["timeline", "Timeline"],
  ["artifacts", "Artifacts"],
];

export function JobPage({ id }: { id: string }) {
  const { query } = usePlace();
  const { jobs } = useLive();
  const turn = useTaskTurn();
  const now = useNow();
  const loaded = useGet<Job>(`jobs/${id}`, {}, turn);
  const [asking, setAsking] = useState(false);
  const [refused, setRefused] = useState<Failure | null>(null);
  const job = loaded.data ?? jobs.get(id);
  if (!job) return loaded.failure ? <Problem failure={loaded.failure} /> : <Empty>Loading</Empty>;
  const tab = query.get("tab") ?? "tasks";
  const stop = () => {
    setAsking(false);
    post(`jobs/${id}/stop`).then(loaded.reload, (error: unknown) => setRefused(failureOf(error)));
  };
  return (
    <>
      <p class="crumbs">
        <a href={href(["jobs"])}>Jobs</a>
      </p>
      <div class="title">
        <h1>{job.name || job.id}</h1>
        <Badge state={job.state} />
        {job.state === "running" ? (
          <button type="button" class="danger" onClick={() => setAsking(true)}>
            Stop
          </button>
        ) : null}
      </div>
      <Confirm open={asking} title={`Stop job ${job.id}?`} yes="Stop it" onYes={stop} onNo={() => setAsking(false)}>
        {count(job.tasks.running)} running tasks are cancelled and {count(job.tasks.queued + job.tasks.compiling)} that wait never run.
      </Confirm>
      <Problem failure={refused} />
      <Panel>
        <Progress tasks={job.tasks} words />
        <Facts
          rows={[
            ["Job", job.id],
            ["Submitted", `${time(job.submitted_ms)} (${ago(job.submitted_ms, now)})`],
            [job.ended_ms ? "Took" : "Runs for", duration((job.ended_ms ?? now) - job.submitted_ms)],
            ["Driver", job.detached ? "the job goes on without it" : "the job ends with it"],
            ["Tenant", job.tenant],
          ]}
        />
        <Problem failure={job.error} />
      </Panel>
      <div class="tabs" role="tablist" aria-label="Parts of the job">
        {TABS.map(([name, text], index) => (
          <button
            key={name}
            type="button"
            role="tab"
            id={`tab-${name}`}
            aria-selected={tab === name}
            aria-controls="tab-panel"
            tabIndex={tab === name ? 0 : -1}
            onClick={() => setQuery({ tab: name })}
            onKeyDown={(event) => {
              const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
              const to = TABS[(index + step + TABS.length) % TABS.length];
              if (step !== 0 && to) {
                setQuery({ tab: to[0] });
                document.getElementById(`tab-${to[0]}`)?.focus();
              }
            }}
          >
            {text}
          </button>
        ))}
      </div>
      <div role="tabpanel" id="tab-panel" aria-labelledby={`tab-${tab}`}>
        {tab === "tasks" ? (
          <>
            <div class="filters">
              <Select label="State" value={query.get("state") ?? ""} options={[["", "any"], ...(["compiling", "queued", "running", "succeeded", "failed", "cancelled"] as const).map((state): [string, string] => [state, `${state} (${count(job.tasks[state])})`])]} onChange={(state) => setQuery({ state })} />
            </div>
            <TaskTable job={id} state={query.get("state") ?? ""} empty="No task fits." />
          </>
        ) : null}
        {tab === "output" ? (
          <Panel flush>
            <LogView job={id} follow />
          </Panel>
        ) : null}
        {tab === "results" ? <ResultsView job={id} /> : null}
        {tab === "timeline" ? <Timeline job={id} from={job.submitted_ms} to={job.ended_ms} /> : null}
        {tab === "artifacts" ? job.artifacts.map((digest) => <ArtifactCard key={digest} digest={digest} />) : null}
      </div>
    </>
  );
}

// Output of any job, chosen by name.

import { useLive } from "../live.ts";
import { LogView } from "../parts/logview.tsx";
import { Empty, Search, Select } from "../parts/parts.tsx";
import { setQuery, usePlace } from "../router.ts";
import type { Job, Page } from "../types.ts";
import { useGet } from "../use.ts";

export function Logs() {
  const { query } = usePlace();
  const { jobs } = useLive();
  const listed = useGet<Page<Job>>("jobs", { limit: 200 }, jobs.size);
  const job = query.get("job") ?? listed.data?.rows[0]?.id ?? "";
  const task = query.get("task") ?? "";
  const options = (listed.data?.rows ?? []).map((row): [string, string] => [row.id, `${row.id} ${row.name} (${row.state})`]);
  if (job && !options.some(([id]) => id === job)) options.unshift([job, job]);
  return (
    <>
      <h1>Logs</h1>
      {job ? (
        <>
          <div class="filters">
            <Select label="Job" value={job} options={options} onChange={(job) => setQuery({ job, task: undefined })} />
            <Search key={job} label="Task number" value={task} placeholder="all" size={6} inputMode="numeric" onChange={(task) => setQuery({ job, task: /^\d+$/.test(task) ? task : undefined })} />
          </div>
          <section class="panel flush tall">
            <LogView key={`${job} ${task}`} job={job} task={task} follow />
          </section>
        </>
      ) : (
        <Empty>{listed.data ? "No job has run yet." : "Loading"}</Empty>
      )}
    </>
  );
}

// What happened lately: nodes that came and went, jobs that began and ended. Put together from what the cluster remembers of them.

import type { ComponentChildren } from "preact";
import { ago, plural, time } from "../format.ts";
import { useLive } from "../live.ts";
import { Badge, Empty, ErrorText, JobLink } from "../parts/parts.tsx";
import type { Job, Node } from "../types.ts";
import { useNow } from "../use.ts";

interface Happening {
  at: number;
  key: string;
  badge: string;
  text: ComponentChildren;
}

function ofNode(node: Node): Happening[] {
  const name = `${node.id} (${node.name})`;
  const joined = { at: node.joined_ms, key: `${node.id} joined`, badge: "alive", text: `Node ${name} joined` };
  return node.lost_ms ? [joined, { at: node.lost_ms, key: `${node.id} lost`, badge: "lost", text: `Node ${name} was lost` }] : [joined];
}

function ofJob(job: Job): Happening[] {
  const name = <><JobLink id={job.id} /> {job.name}</>;
  const begun = { at: job.submitted_ms, key: `${job.id} begun`, badge: "opened", text: <>Job {name} was submitted</> };
  if (!job.ended_ms) return [begun];
  const tasks = plural(Object.values(job.tasks).reduce((sum, count) => sum + count, 0), "task");
  const end = <>Job {name} ended with {tasks} <ErrorText failure={job.error} /></>;
  return [begun, { at: job.ended_ms, key: `${job.id} ended`, badge: job.state, text: end }];
}

export function Events() {
  const { nodes, jobs } = useLive();
  const now = useNow();
  const all = [...nodes.flatMap(ofNode), ...[...jobs.values()].flatMap(ofJob)].sort((a, b) => b.at - a.at).slice(0, 300);
  return (
    <>
      <h1>Events</h1>
      <p class="soft count">Of the nodes and of the newest jobs, as they come.</p>
      {all.length === 0 ? <Empty>Nothing happened yet.</Empty> : null}
      <ol class="events panel" aria-live="polite" aria-relevant="additions">
        {all.map((one) => (
          <li key={one.key}>
            <span class="soft nowrap number" title={ago(one.at, now)}>{time(one.at)}</span>
            <Badge state={one.badge} />
            <span class="grow">{one.text}</span>
          </li>
        ))}
      </ol>
    </>
  );
}

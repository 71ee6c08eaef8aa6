// What the cluster does now, as the stream of events tells it. One stream for all pages; whoever shows a part of it listens.

import { useEffect, useState } from "preact/hooks";
import { get } from "./api.ts";
import type { Failure, Job, Node, Summary } from "./types.ts";

export interface Live {
  connected: boolean;
  summary: Summary | null;
  nodes: Node[];
  jobs: Map<string, Job>;
  /** What the last look could not learn. */
  problem: Failure | null;
  /** Changes with everything that comes. */
  version: number;
  /** Used and given, sampled with each summary since the page was opened. */
  use: { at: number; cpu: number; memory: number }[];
}

const SAMPLES = 300;
const JOBS = 500;

let live: Live = { connected: false, summary: null, nodes: [], jobs: new Map(), problem: null, version: 0, use: [] };
const listeners = new Set<() => void>();
let source: EventSource | null = null;

function change(part: Partial<Live>): void {
  live = { ...live, ...part, version: live.version + 1 };
  for (const listener of listeners) listener();
}

function share(nodes: Node[], of: (node: Node) => [number, number]): number {
  let used = 0;
  let all = 0;
  for (const node of nodes.filter((node) => node.alive)) {
    const [part, whole] = of(node);
    used += part;
    all += whole;
  }
  return all === 0 ? 0 : used / all;
}

function summary(next: Summary): void {
  const sample = {
    at: next.now_s,
    cpu: share(live.nodes, (node) => [Number(node.used.cpu), Number(node.capacity.cpu)]),
    memory: share(live.nodes, (node) => [node.used.memory, node.capacity.memory]),
  };
  change({ summary: next, connected: true, problem: null, use: [...live.use, sample].slice(-SAMPLES) });
}

function jobs(changed: Job[]): void {
  const all = new Map(live.jobs);
  for (const job of changed) all.set(job.id, job);
  const newest = [...all.values()].sort((a, b) => b.submitted_ms - a.submitted_ms).slice(0, JOBS);
  change({ jobs: new Map(newest.map((job) => [job.id, job])) });
}

export function startLive(): void {
  if (source) return;
  source = new EventSource("/api/v1/events");
  const on = <T>(name: string, take: (data: T) => void) =>
    source?.addEventListener(name, (event) => take(JSON.parse((event as MessageEvent<string>).data) as T));
  on<Summary>("summary", summary);
  on<Node[]>("nodes", (nodes) => change({ nodes }));
  on<Job[]>("jobs", jobs);
  on<Failure>("end", () => void get("session").catch(() => {}));
  source.onerror = () => {
    change({ connected: false });
    // The browser does not say why a stream ended. If it is for the session, this finds out.
    void get("status").catch(() => {});
  };
}

export function stopLive(): void {
  source?.close();
  source = null;
  live = { connected: false, summary: null, nodes: [], jobs: new Map(), problem: null, version: 0, use: [] };
}

export function useLive(): Live {
  const [, setVersion] = useState(0);
  useEffect(() => {
    const listener = () => setVersion(live.version);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return live;
}

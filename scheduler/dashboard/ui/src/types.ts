// What the API answers. The names are those of the OpenAPI document.

export type TaskState = "compiling" | "queued" | "running" | "succeeded" | "failed" | "cancelled";
export type JobState = "running" | "succeeded" | "failed" | "cancelled";
export type Counts = Record<TaskState, number>;

export const TASK_STATES: TaskState[] = ["compiling", "queued", "running", "succeeded", "failed", "cancelled"];
export const JOB_STATES: JobState[] = ["running", "succeeded", "failed", "cancelled"];

export interface Failure {
  code: string;
  message: string;
  hint?: string;
  fields?: Record<string, string>;
}

export interface Resources {
  cpu: number | string;
  gpu: number | string;
  memory: number;
  custom?: Record<string, number | string>;
}

export interface Job {
  id: string;
  name: string;
  tenant: string;
  state: JobState;
  tasks: Counts;
  detached: boolean;
  artifacts: string[];
  submitted_ms: number;
  ended_ms: number | null;
  error: Failure | null;
}

export interface Task {
  id: string;
  job: string;
  tenant: string;
  export: string;
  artifact: string;
  state: TaskState;
  attempt: number;
  node: string | null;
  queued_ms: number;
  started_ms: number | null;
  ended_ms: number | null;
  cpu_us: number;
  error: Failure | null;
}

export interface Node {
  id: string;
  name: string;
  alive: boolean;
  head: boolean;
  data_address: string | null;
  gateway_address: string | null;
  capacity: Resources;
  used: Resources;
  labels: Record<string, string>;
  tasks_queued: number;
  tasks_running: number;
  memory_bytes: number;
  joined_ms: number;
  lost_ms: number | null;
}

export interface Artifact {
  digest: string;
  tenant: string;
  size_bytes: number;
  stored_ms: number;
}

export interface Page<T> {
  rows: T[];
  total: number;
  missing: string[];
  next?: string;
}

export interface Summary {
  jobs: Partial<Record<JobState, number>>;
  tasks: Counts;
  now_s: number;
  ended_per_second: number[];
  missing: string[];
}

export interface Span {
  task: string;
  node: string;
  attempt: number;
  state: TaskState;
  export: string;
  started_ms: number;
  ended_ms: number | null;
}

export interface Param {
  name: string;
  ty: string;
}

export type Role =
  | "task"
  | "command"
  | { "actor-create": { resource: unknown } }
  | { "actor-method": { resource: unknown } }
  | { "not-callable": { why: string } };

export interface Export {
  name: { interface: string | null; func: string };
  signature: { params: Param[]; result: string | null };
  role: Role;
}

export interface ArtifactInfo {
  kind: string;
  text: boolean;
  profile: string;
  exports: Export[];
  imports: { name: string; need: "provided" | "missing" | { grant: string }; blocking: boolean }[];
  memory_initial_bytes: number;
  size_bytes: number;
}

export interface Described {
  digest: string;
  info: ArtifactInfo;
}

export interface ResultRow {
  task: string;
  attempt: number;
  failed: boolean;
  value?: unknown;
  left_out_bytes?: number;
  error?: Failure;
}

export interface Results {
  rows: ResultRow[];
  total: number;
  ended: boolean;
}

export function exportName(of: Export): string {
  return of.name.interface ? `${of.name.interface}/${of.name.func}` : of.name.func;
}

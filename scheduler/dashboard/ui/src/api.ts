// Requests to the API of this very host. The session is a cookie that no script can read; nothing is kept here.

import type { Failure } from "./types.ts";

export class ApiError extends Error {
  readonly status: number;
  readonly failure: Failure;

  constructor(status: number, failure: Failure) {
    super(failure.message);
    this.status = status;
    this.failure = failure;
  }
}

let signedOut: () => void = () => {};

/** Says what to do when the session has ended. */
export function onSignedOut(then: () => void): void {
  signedOut = then;
}

export type Query = Record<string, string | number | boolean | undefined | null>;

/** A path with its parameters; those without a value are left out. */
export function url(path: string, query: Query = {}): string {
  const set = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(set.map(([key, value]) => [key, String(value)])).toString();
  return `/api/v1/${path}${text ? `?${text}` : ""}`;
}

async function failure(response: Response): Promise<ApiError> {
  const unknown = { code: "", message: `the server answered with status ${response.status}` };
  const body = (await response.json().catch(() => ({}))) as { error?: Failure };
  return new ApiError(response.status, body.error ?? unknown);
}

async function send(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, credentials: "same-origin", cache: "no-store" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(0, { code: "", message: "the cluster does not answer", hint: "check that it runs" });
  }
  if (!response.ok) {
    if (response.status === 401 && !path.endsWith("/session")) signedOut();
    throw await failure(response);
  }
  return response;
}

export async function get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T> {
  const response = await send(url(path, query), signal ? { signal } : {});
  return (await response.json()) as T;
}

export async function post<T>(path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method: "POST" };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "content-type": "application/json" };
  }
  return (await (await send(url(path), init)).json()) as T;
}

export async function upload<T>(path: string, file: Blob): Promise<T> {
  const init = { method: "POST", body: file, headers: { "content-type": "application/wasm" } };
  return (await (await send(url(path), init)).json()) as T;
}

export async function remove(path: string): Promise<void> {
  await send(url(path), { method: "DELETE" });
}

/** Reads lines of JSON as they come. */
export async function lines<T>(path: string, query: Query, signal: AbortSignal, take: (lines: T[]) => void): Promise<void> {
  const response = await send(url(path, query), { signal });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const next = await reader?.read();
    if (!next || next.done) return;
    const parts = (rest + next.value).split("\n");
    rest = parts.pop() ?? "";
    const whole = parts.filter((part) => part !== "");
    if (whole.length > 0) take(whole.map((part) => JSON.parse(part) as T));
  }
}

// Loading, with its three ends: there, not there yet, and failed.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get, type Query } from "./api.ts";
import type { Failure, Page } from "./types.ts";

export interface Loaded<T> {
  data: T | null;
  failure: Failure | null;
  reload: () => void;
}

export function failureOf(error: unknown): Failure {
  return error instanceof ApiError ? error.failure : { code: "", message: error instanceof Error ? error.message : String(error) };
}

/**
 * Runs a look at once when `key` changes, and again when `again` does: one at a time, so that a slow answer is shown before the next is asked
 * for. Of changes meanwhile the last is looked at, and a look at what is no longer wanted is given up.
 */
function useLooks(key: string, again: unknown, look: (signal: AbortSignal) => Promise<void>): void {
  const busy = useRef<{ key: string; abort: AbortController } | null>(null);
  const wanted = useRef(false);
  const latest = useRef(look);
  latest.current = look;
  const begin = (of: string) => {
    const turn = { key: of, abort: new AbortController() };
    busy.current = turn;
    wanted.current = false;
    void latest.current(turn.abort.signal).finally(() => {
      if (busy.current !== turn) return;
      busy.current = null;
      if (wanted.current) begin(of);
    });
  };
  useEffect(() => {
    if (busy.current?.key === key) wanted.current = true;
    else {
      busy.current?.abort.abort();
      begin(key);
    }
  }, [key, again]);
  useEffect(
    () => () => {
      const last = busy.current;
      busy.current = null;
      last?.abort.abort();
    },
    [],
  );
}

/** Loads a path, again when `again` changes; what is there stays until the new is. `null` loads nothing. */
export function useGet<T>(path: string | null, query: Query = {}, again: unknown = 0): Loaded<T> {
  const [state, setState] = useState<{ key: string; data: T | null; failure: Failure | null }>({ key: "", data: null, failure: null });
  const [turn, setTurn] = useState(0);
  const key = JSON.stringify([path, query]);
  useLooks(key, `${turn} ${again}`, async (signal) => {
    if (path === null) return;
    try {
      const data = await get<T>(path, query, signal);
      if (!signal.aborted) setState({ key, data, failure: null });
    } catch (error) {
      if (!signal.aborted) setState((old) => ({ key, data: old.key === key ? old.data : null, failure: failureOf(error) }));
    }
  });
  const fresh = state.key === key;
  const reload = useCallback(() => setTurn((turn) => turn + 1), []);
  return { data: fresh ? state.data : null, failure: fresh ? state.failure : null, reload };
}

export interface Paged<T> {
  rows: T[];
  total: number;
  missing: string[];
  failure: Failure | null;
  loading: boolean;
  more: () => void;
}

/** A list in pages. When `again` changes, its beginning is loaded anew and what is known behind it stays. */
export function usePages<T extends { id?: string; digest?: string }>(path: string, query: Query, again: unknown = 0): Paged<T> {
  type State = { key: string; rows: T[]; total: number; missing: string[]; next: string | undefined; failure: Failure | null; loaded: boolean };
  const empty: State = { key: "", rows: [], total: 0, missing: [], next: undefined, failure: null, loaded: false };
  const [state, setState] = useState<State>(empty);
  const key = JSON.stringify([path, query]);
  const busy = useRef(false);
  const nameOf = (row: T) => row.id ?? row.digest ?? "";

  useLooks(key, again, async (signal) => {
    try {
      const page = await get<Page<T>>(path, { ...query, limit: 100 }, signal);
      if (signal.aborted) return;
      setState((old) => {
        // What is known stays behind the new beginning only if the two meet: else there is something in between.
        const names = new Set(page.rows.map(nameOf));
        const meets = page.next !== undefined && old.key === key && old.rows.some((row) => names.has(nameOf(row)));
        const known = meets && old.rows.length > page.rows.length;
        const behind = known ? old.rows.filter((row) => !names.has(nameOf(row))) : [];
        const { total, missing } = page;
        return { key, rows: [...page.rows, ...behind], total, missing, next: known ? old.next : page.next, failure: null, loaded: true };
      });
    } catch (error) {
      if (!signal.aborted) setState((old) => ({ ...(old.key === key ? old : empty), key, failure: failureOf(error), loaded: true }));
    }
  });

  const fresh = state.key === key ? state : empty;
  const more = useCallback(() => {
    if (!fresh.next || busy.current) return;
    busy.current = true;
    get<Page<T>>(path, { ...query, limit: 500, after: fresh.next })
      .then(
        (page) =>
          setState((old) => {
            if (old.key !== key) return old;
            const names = new Set(old.rows.map(nameOf));
            return { ...old, rows: [...old.rows, ...page.rows.filter((row) => !names.has(nameOf(row)))], next: page.next, total: page.total };
          }),
        (error: unknown) => setState((old) => ({ ...old, failure: failureOf(error) })),
      )
      .finally(() => (busy.current = false));
  }, [key, fresh.next]);
  return { rows: fresh.rows, total: fresh.total, missing: fresh.missing, failure: fresh.failure, loading: !fresh.loaded, more };
}

/** The time now, told again every so often. */
export function useNow(everyMs = 1000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

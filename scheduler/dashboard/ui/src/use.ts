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

/** Loads a path, again when `again` changes; what is there stays until the new is. `null` loads nothing. */
export function useGet<T>(path: string | null, query: Query = {}, again: unknown = 0): Loaded<T> {
  const [state, setState] = useState<{ key: string; data: T | null; failure: Failure | null }>({ key: "", data: null, failure: null });
  const [turn, setTurn] = useState(0);
  const key = JSON.stringify([path, query]);
  useEffect(() => {
    if (path === null) return;
    const abort = new AbortController();
    get<T>(path, query, abort.signal).then(
      (data) => setState({ key, data, failure: null }),
      (error: unknown) => {
        if (!abort.signal.aborted) setState((old) => ({ key, data: old.key === key ? old.data : null, failure: failureOf(error) }));
      },
    );
    return () => abort.abort();
  }, [key, turn, again]);
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

  useEffect(() => {
    const abort = new AbortController();
    get<Page<T>>(path, { ...query, limit: 100 }, abort.signal).then(
      (page) =>
        setState((old) => {
          const known = old.key === key && old.rows.length > page.rows.length && page.next !== undefined;
          const names = new Set(page.rows.map(nameOf));
          const behind = known ? old.rows.filter((row) => !names.has(nameOf(row))) : [];
          const { total, missing } = page;
          return { key, rows: [...page.rows, ...behind], total, missing, next: known ? old.next : page.next, failure: null, loaded: true };
        }),
      (error: unknown) => {
        if (!abort.signal.aborted) setState((old) => ({ ...(old.key === key ? old : empty), key, failure: failureOf(error), loaded: true }));
      },
    );
    return () => abort.abort();
  }, [key, again]);

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

// Where we are: `#/jobs/j1-7?tab=logs`. The part behind `#` never leaves the browser.

import { useEffect, useState } from "preact/hooks";

export interface Place {
  parts: string[];
  query: URLSearchParams;
}

function read(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

export function href(parts: string[], query: Record<string, string | undefined> = {}): string {
  const set = Object.entries(query).filter((entry): entry is [string, string] => !!entry[1]);
  const text = new URLSearchParams(set).toString();
  return `#/${parts.map((part) => encodeURIComponent(part).replaceAll("%3A", ":")).join("/")}${text ? `?${text}` : ""}`;
}

export function go(to: string): void {
  location.hash = to;
}

/** Changes a parameter of where we are, without a new entry in the history. */
export function setQuery(changes: Record<string, string | undefined>): void {
  const { parts, query } = read();
  const all: Record<string, string | undefined> = { ...Object.fromEntries(query), ...changes };
  history.replaceState(null, "", href(parts, all));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export function usePlace(): Place {
  const [place, setPlace] = useState(read);
  useEffect(() => {
    const changed = () => setPlace(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return place;
}

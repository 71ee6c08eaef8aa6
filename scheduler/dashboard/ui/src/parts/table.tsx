// A table of any length: only the rows in sight exist, and the next page is fetched before the last one is reached.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

export interface Column<T> {
  title: string;
  /** A track of CSS grid. */
  width: string;
  cell: (row: T) => ComponentChildren;
  number?: boolean;
  /** Left out where the screen is narrow. */
  wide?: boolean;
}

const ROW = 38;
const SPARE = 12;

export function Table<T>({ label, columns, rows, nameOf, total, more, empty }: {
  label: string;
  columns: Column<T>[];
  rows: T[];
  nameOf: (row: T) => string;
  total: number;
  more: () => void;
  empty: ComponentChildren;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const [narrow, setNarrow] = useState(() => matchMedia("(max-width: 760px)").matches);

  useEffect(() => {
    const media = matchMedia("(max-width: 760px)");
    const changed = () => setNarrow(media.matches);
    media.addEventListener("change", changed);
    return () => media.removeEventListener("change", changed);
  }, []);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const look = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    look();
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);

  const first = Math.max(0, Math.floor(view.top / ROW) - SPARE);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / ROW) + SPARE);
  useEffect(() => {
    if (last + 50 >= rows.length && rows.length < total) more();
  }, [last, rows.length, total, more]);

  const shown = columns.filter((column) => !(narrow && column.wide));
  const tracks = shown.map((column) => column.width).join(" ");
  const cells = (row: T) =>
    shown.map((column) => (
      <div key={column.title} role="cell" class={column.number ? "cell number" : "cell"}>
        {column.cell(row)}
      </div>
    ));
  return (
    <div class="table" role="table" aria-label={label} aria-rowcount={total + 1}>
      <div class="table-head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: tracks }}>
        {shown.map((column) => (
          <div key={column.title} role="columnheader" class={column.number ? "cell number" : "cell"}>
            {column.title}
          </div>
        ))}
      </div>
      <div class="table-body" ref={box} role="rowgroup" tabIndex={0} aria-label={`${label}, rows`}>
        {rows.length === 0 ? (
          <div role="row">
            <div role="cell" class="empty">
              {empty}
            </div>
          </div>
        ) : (
          <div class="table-rows" role="presentation" style={{ height: `${rows.length * ROW}px` }}>
            {rows.slice(first, last).map((row, index) => (
              <div
                key={nameOf(row)}
                class="table-row"
                role="row"
                aria-rowindex={first + index + 2}
                style={{ gridTemplateColumns: tracks, transform: `translateY(${(first + index) * ROW}px)` }}
              >
                {cells(row)}
              </div>
            ))}
          </div>
        )}
      </div>
    </div>
  );
}

// Lines over time.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { time } from "../format.ts";

export interface Line {
  label: string;
  /** The name of a colour of the style sheet. */
  colour: string;
  values: number[];
  fill?: boolean;
}

function style(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function Chart({ label, at, lines, height = 160, max, format }: {
  label: string;
  at: number[];
  lines: Line[];
  height?: number;
  max?: number;
  format: (value: number) => string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const theme = document.documentElement.dataset.theme ?? "";

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const grid = { stroke: style("--line"), width: 1 };
    const axis = { stroke: style("--faint"), grid, ticks: { show: false }, font: "11px system-ui", gap: 6 };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
        scales: { y: { range: (_self, _low, high) => [0, max ?? Math.max(1, high * 1.1)] } },
        axes: [
          { ...axis, grid: { show: false }, size: 28, space: 80, values: (_self, splits) => splits.map((at) => (Number.isInteger(at) ? time(at * 1000) : "")) },
          { ...axis, size: 44, splits: (_self, _axis, low, high) => [low, (low + high) / 2, high], values: (_self, splits) => splits.map(format) },
        ],
        series: [
          {},
          ...lines.map((line) => ({
            label: line.label,
            stroke: style(line.colour),
            width: 1.6,
            points: { show: false },
            ...(line.fill ? { fill: `color-mix(in srgb, ${style(line.colour)} 14%, transparent)` } : {}),
          })),
        ],
      },
      [at, ...lines.map((line) => line.values)],
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
    };
  }, [theme, lines.length, height, max]);

  useEffect(() => plot.current?.setData([at, ...lines.map((line) => line.values)]), [at, lines]);

  const last = lines.map((line) => `${line.label} ${format(line.values.at(-1) ?? 0)}`).join(", ");
  return <div class="chart" ref={box} role="img" aria-label={`${label}: now ${last}`} />;
}

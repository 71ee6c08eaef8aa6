// What ran when, a lane for each slot of each node, as a picture that can be zoomed and moved.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get } from "../api.ts";
import { count, duration, time } from "../format.ts";
import { go, href } from "../router.ts";
import type { Failure, Page, Span } from "../types.ts";
import { failureOf } from "../use.ts";
import { Problem } from "./parts.tsx";

const LANE = 15;
const HEAD = 22;
const AXIS = 24;
const LEFT = 8;
/** What a lane of a live picture shows. */
const LIVE_MS = 60_000;
const SPAN_MIN_MS = 20;

interface Lanes {
  nodes: { node: string; top: number; lanes: number }[];
  placed: { span: Span; y: number }[];
  height: number;
}

/** Puts spans of each node into as few lanes as hold them side by side: as many as ran at once. */
function lay(spans: Span[], now: number): Lanes {
  const nodes = [...new Set(spans.map((span) => span.node))].sort((a, b) => Number(a.slice(1)) - Number(b.slice(1)));
  const made: Lanes = { nodes: [], placed: [], height: AXIS };
  for (const node of nodes) {
    const free: number[] = [];
    const top = made.height;
    const own = spans.filter((span) => span.node === node).sort((a, b) => a.started_ms - b.started_ms);
    for (const span of own) {
      const open = free.findIndex((until) => until <= span.started_ms);
      const lane = open < 0 ? free.length : open;
      // Times have whole milliseconds; tasks that took less still follow each other.
      free[lane] = span.ended_ms ?? now;
      made.placed.push({ span, y: top + HEAD + lane * LANE });
    }
    made.nodes.push({ node, top, lanes: free.length });
    made.height += HEAD + free.length * LANE + 8;
  }
  return made;
}

function step(ms: number): number {
  const power = 10 ** Math.floor(Math.log10(ms));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= ms) ?? ms;
}

export function Timeline({ job, from, to }: { job?: string; from?: number; to?: number | null }) {
  const ended = to ?? null;
  const [live, setLive] = useState(ended === null);
  const [window, setWindow] = useState(() => {
    const end = ended ?? Date.now();
    const begin = from ?? end - LIVE_MS;
    const spare = Math.max(SPAN_MIN_MS, (end - begin) * 0.02);
    return { from: begin - spare, to: end + spare };
  });
  const [spans, setSpans] = useState<Page<Span>>({ rows: [], total: 0, missing: [] });
  const [failure, setFailure] = useState<Failure | null>(null);
  const [hover, setHover] = useState<{ span: Span; x: number; y: number } | null>(null);
  const [width, setWidth] = useState(800);
  const canvas = useRef<HTMLCanvasElement>(null);
  const drag = useRef<{ x: number; from: number; to: number; moved: boolean } | null>(null);
  const theme = document.documentElement.dataset.theme;

  // What is shown follows the time, a second after each answer.
  const [answers, setAnswers] = useState(0);
  useEffect(() => {
    if (!live) return;
    const timer = setTimeout(() => setWindow((old) => ({ from: Date.now() - (old.to - old.from), to: Date.now() })), 1000);
    return () => clearTimeout(timer);
  }, [live, answers]);

  useEffect(() => {
    const abort = new AbortController();
    const wait = setTimeout(() => {
      const query = { job, from: Math.floor(window.from), to: Math.ceil(window.to), limit: 3000 };
      get<Page<Span>>("timeline", query, abort.signal).then(
        (page) => (setSpans(page), setFailure(null), setAnswers((count) => count + 1)),
        (error: unknown) => {
          if (!abort.signal.aborted) (setFailure(failureOf(error)), setAnswers((count) => count + 1));
        },
      );
    }, live ? 0 : 120);
    return () => {
      clearTimeout(wait);
      abort.abort();
    };
  }, [job, window.from, window.to, live]);

  useEffect(() => {
    const box = canvas.current?.parentElement;
    if (!box) return;
    const observer = new ResizeObserver(() => setWidth(box.clientWidth));
    observer.observe(box);
    return () => observer.disconnect();
  }, []);

  const lanes = useMemo(() => lay(spans.rows, window.to), [spans, window.to]);
  const height = Math.max(140, lanes.height);
  const x = useCallback((ms: number) => LEFT + ((ms - window.from) / (window.to - window.from)) * (width - LEFT * 2), [window, width]);

  useEffect(() => {
    const element = canvas.current;
    const paint = element?.getContext("2d");
    if (!element || !paint) return;
    const css = getComputedStyle(document.documentElement);
    const colour = (name: string) => css.getPropertyValue(name).trim();
    const ratio = devicePixelRatio || 1;
    element.width = width * ratio;
    element.height = height * ratio;
    paint.scale(ratio, ratio);
    paint.clearRect(0, 0, width, height);
    paint.font = "11px system-ui, sans-serif";
    paint.textBaseline = "middle";
    const every = step(((window.to - window.from) / width) * 110);
    paint.fillStyle = colour("--soft");
    paint.strokeStyle = colour("--line");
    for (let at = Math.ceil(window.from / every) * every; at < window.to; at += every) {
      const left = Math.round(x(at)) + 0.5;
      paint.beginPath();
      paint.moveTo(left, AXIS - 6);
      paint.lineTo(left, height);
      paint.stroke();
      const date = new Date(at);
      const words = every < 1000 ? `${date.toLocaleTimeString("en-GB")}.${String(date.getMilliseconds()).padStart(3, "0")}` : date.toLocaleTimeString("en-GB");
      paint.fillText(words, left + 4, 9);
    }
    for (const { node, top, lanes: number } of lanes.nodes) {
      paint.fillStyle = colour("--ink");
      paint.fillText(`${node} · ${number} ${number === 1 ? "lane" : "lanes"}`, LEFT, top + HEAD / 2);
    }
    for (const { span, y } of lanes.placed) {
      const left = Math.max(LEFT, x(span.started_ms));
      const right = Math.min(width - LEFT, x(span.ended_ms ?? window.to));
      paint.fillStyle = colour(`--${span.state}`);
      paint.globalAlpha = hover && hover.span.task !== span.task ? 0.55 : 1;
      paint.beginPath();
      paint.roundRect(left, y, Math.max(1.5, right - left - 0.5), LANE - 3, 2);
      paint.fill();
      if (right - left > 70) {
        paint.globalAlpha = 1;
        paint.fillStyle = colour("--on-fill");
        paint.save();
        paint.beginPath();
        paint.rect(left, y, right - left - 4, LANE);
        paint.clip();
        paint.fillText(`${span.task} ${span.export}`, left + 4, y + LANE / 2 - 1);
        paint.restore();
      }
    }
    paint.globalAlpha = 1;
  }, [lanes, window, width, height, hover, x, theme]);

  const at = (event: PointerEvent | MouseEvent | WheelEvent) => {
    const box = canvas.current?.getBoundingClientRect() ?? new DOMRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const find = (place: { x: number; y: number }) =>
    lanes.placed.find(({ span, y }) => place.y >= y && place.y < y + LANE && place.x >= x(span.started_ms) - 2 && place.x <= x(span.ended_ms ?? window.to) + 2)?.span;
  const zoom = useCallback((factor: number, centre = 0.5) => {
    setLive(false);
    setWindow((old) => {
      const length = Math.max(SPAN_MIN_MS, (old.to - old.from) * factor);
      const pivot = old.from + (old.to - old.from) * centre;
      return { from: pivot - length * centre, to: pivot + length * (1 - centre) };
    });
  }, []);
  const move = (share: number) => {
    setLive(false);
    setWindow((old) => ({ from: old.from + (old.to - old.from) * share, to: old.to + (old.to - old.from) * share }));
  };
  const whole = () => {
    if (from === undefined) {
      setWindow({ from: Date.now() - LIVE_MS, to: Date.now() });
      setLive(true);
    } else {
      const end = ended ?? Date.now();
      setWindow({ from, to: Math.max(end, from + SPAN_MIN_MS) });
      setLive(ended === null);
    }
  };

  // The wheel zooms, and the page does not scroll while it does.
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, Math.min(1, Math.max(0, at(event).x / element.clientWidth)));
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  }, [zoom]);

  const words = `${count(spans.total)} task${spans.total === 1 ? "" : "s"} ran from ${time(window.from)} to ${time(window.to)}`;
  return (
    <section class="panel flush timeline">
      <div class="filters">
        <button type="button" aria-pressed={live} onClick={() => (live ? setLive(false) : (setWindow((old) => ({ from: Date.now() - (old.to - old.from), to: Date.now() })), setLive(true)))}>
          {live ? "Live" : "Go live"}
        </button>
        <button type="button" onClick={() => zoom(0.5)} aria-label="Zoom in">+</button>
        <button type="button" onClick={() => zoom(2)} aria-label="Zoom out">−</button>
        <button type="button" onClick={() => move(-0.4)} aria-label="Earlier">←</button>
        <button type="button" onClick={() => move(0.4)} aria-label="Later">→</button>
        <button type="button" onClick={whole}>{from === undefined ? "Last minute" : "Whole job"}</button>
        <span class="soft" role="status">
          {duration(window.to - window.from)}
          {spans.total > spans.rows.length ? ` · the longest ${count(spans.rows.length)} of ${count(spans.total)} tasks` : ` · ${count(spans.total)} task${spans.total === 1 ? "" : "s"}`}
        </span>
      </div>
      <Problem failure={failure} />
      <div class="canvas-box">
        <canvas
          ref={canvas}
          style={{ height: `${height}px` }}
          role="img"
          tabIndex={0}
          aria-label={`${words}, on ${lanes.nodes.map((node) => node.node).join(", ") || "no node"}. Arrow keys move, plus and minus zoom.`}
          onKeyDown={(event) => {
            const keys: Record<string, () => void> = { "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1.4), ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), Home: whole };
            const act = keys[event.key];
            if (act) {
              event.preventDefault();
              act();
            }
          }}
          onPointerDown={(event) => {
            event.currentTarget.setPointerCapture(event.pointerId);
            drag.current = { x: event.clientX, ...window, moved: false };
          }}
          onPointerMove={(event) => {
            const held = drag.current;
            if (held) {
              const shift = ((event.clientX - held.x) / width) * (held.to - held.from);
              if (Math.abs(event.clientX - held.x) > 3) {
                held.moved = true;
                setLive(false);
                setWindow({ from: held.from - shift, to: held.to - shift });
              }
              return;
            }
            const place = at(event);
            const span = find(place);
            setHover(span ? { span, ...place } : null);
          }}
          onPointerUp={(event) => {
            const span = drag.current?.moved ? undefined : find(at(event));
            drag.current = null;
            if (span) go(href(["tasks", span.task]));
          }}
          onPointerLeave={() => setHover(null)}
        />
        {lanes.placed.length === 0 ? <div class="empty over">Nothing ran in this time.</div> : null}
        {hover ? (
          <div class="tip" style={{ left: `${Math.min(hover.x + 12, width - 220)}px`, top: `${hover.y + 14}px` }}>
            <b>{hover.span.task}</b> {hover.span.state}
            <br />
            <code>{hover.span.export}</code>
            <br />
            {duration((hover.span.ended_ms ?? Date.now()) - hover.span.started_ms)} on {hover.span.node}, attempt {hover.span.attempt}
          </div>
        ) : null}
      </div>
      <div class="legend" aria-hidden="true">
        {["running", "succeeded", "failed", "cancelled"].map((state) => (
          <span key={state}><i class={`dot ${state}`} /> {state}</span>
        ))}
        <span class="soft">drag to move, wheel to zoom, click a task</span>
      </div>
    </section>
  );
}

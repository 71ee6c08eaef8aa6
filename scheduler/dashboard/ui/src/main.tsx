// The dashboard: a frame with places to go, and the page of the place we are at.

import "./app.css";
import { type ComponentChildren, render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get, onSignedOut, remove } from "./api.ts";
import { startLive, stopLive, useLive } from "./live.ts";
import { Artifacts } from "./pages/artifacts.tsx";
import { Events } from "./pages/events.tsx";
import { JobPage, Jobs } from "./pages/jobs.tsx";
import { Logs } from "./pages/logs.tsx";
import { Nodes } from "./pages/nodes.tsx";
import { Overview } from "./pages/overview.tsx";
import { SignIn } from "./pages/signin.tsx";
import { Submit } from "./pages/submit.tsx";
import { TaskPage, Tasks } from "./pages/tasks.tsx";
import { TimelinePage } from "./pages/timeline.tsx";
import { href, usePlace } from "./router.ts";

const PLACES: [string, string, string][] = [
  ["overview", "Overview", "M3 12h4l3-8 4 16 3-8h4"],
  ["jobs", "Jobs", "M4 7h16v12H4zM9 7V4h6v3"],
  ["tasks", "Tasks", "M4 6h2m3 0h11M4 12h2m3 0h11M4 18h2m3 0h11"],
  ["nodes", "Nodes", "M4 4h16v6H4zM4 14h16v6H4zM8 7h.01M8 17h.01"],
  ["timeline", "Timeline", "M3 6h8M7 12h10M13 18h8"],
  ["logs", "Logs", "M5 4h14v16H5zM8 9h8M8 13h8M8 17h5"],
  ["artifacts", "Artifacts", "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9"],
  ["events", "Events", "M6 16V11a6 6 0 1112 0v5l2 2H4zM10 21h4"],
  ["submit", "Submit", "M12 16V4m0 0L7 9m5-5l5 5M4 20h16"],
];

function page(parts: string[]): ComponentChildren {
  const [name = "overview", id] = parts;
  switch (name) {
    case "overview":
      return <Overview />;
    case "jobs":
      return id ? <JobPage key={id} id={id} /> : <Jobs />;
    case "tasks":
      return id ? <TaskPage key={id} id={id} /> : <Tasks />;
    case "nodes":
      return <Nodes />;
    case "timeline":
      return <TimelinePage />;
    case "logs":
      return <Logs />;
    case "artifacts":
      return <Artifacts digest={id} />;
    case "events":
      return <Events />;
    case "submit":
      return <Submit />;
    default:
      return <p class="empty">There is no such page.</p>;
  }
}

function Theme() {
  const [theme, setTheme] = useState(() => localStorage.getItem("theme") ?? "auto");
  const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const next = dark ? "light" : "dark";
  return (
    <button
      type="button"
      class="quiet"
      title={`Use the ${next} theme`}
      aria-label={`Use the ${next} theme`}
      onClick={() => {
        localStorage.setItem("theme", next);
        setTheme(next);
        document.documentElement.dataset.theme = next;
        dispatchEvent(new HashChangeEvent("hashchange"));
      }}
    >
      <Icon path={dark ? "M12 4V2m0 20v-2m8-8h2M2 12h2m13.7-5.7l1.4-1.4M4.9 19.1l1.4-1.4m0-11.4L4.9 4.9m14.2 14.2l-1.4-1.4M16 12a4 4 0 11-8 0 4 4 0 018 0z" : "M20 14.5A8 8 0 119.5 4a6.5 6.5 0 0010.5 10.5z"} />
    </button>
  );
}

function Icon({ path }: { path: string }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={path} />
    </svg>
  );
}

function Connection() {
  const { connected } = useLive();
  return (
    <span class={connected ? "live on" : "live"} role="status">
      {connected ? "live" : "connecting"}
    </span>
  );
}

function Frame({ cluster, onLeave }: { cluster: string; onLeave: () => void }) {
  const { parts } = usePlace();
  const current = parts[0] ?? "overview";
  const title = PLACES.find(([name]) => name === current)?.[1] ?? "rwasm";
  useEffect(() => {
    document.title = `${parts[1] ?? title} · rwasm`;
  }, [parts.join("/")]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.querySelector("main")?.focus();
      }}>
        Skip to the page
      </a>
      <nav aria-label="Pages">
        <a class="brand" href="#/overview" aria-label="rwasm, overview">
          <img src="/icon.svg" alt="" width="26" height="26" />
          <span>rwasm</span>
        </a>
        <ul>
          {PLACES.map(([name, text, path]) => (
            <li key={name} class={name === "submit" ? "apart" : ""}>
              <a href={href([name])} aria-current={name === current ? "page" : undefined}>
                <Icon path={path} />
                {text}
              </a>
            </li>
          ))}
        </ul>
        <div class="foot">
          <Connection />
          <span class="cluster" title={`cluster ${cluster}`}>{cluster}</span>
          <Theme />
          <button type="button" class="quiet" title="Sign out" aria-label="Sign out" onClick={onLeave}>
            <Icon path="M14 4H6v16h8M10 12h11m0 0l-4-4m4 4l-4 4" />
          </button>
        </div>
      </nav>
      <main tabIndex={-1} id="main">{page(parts)}</main>
    </>
  );
}

function App() {
  const [cluster, setCluster] = useState<string | null | undefined>(undefined);
  const enter = () =>
    get<{ cluster: string }>("session").then(
      (who) => {
        startLive();
        setCluster(who.cluster);
      },
      () => setCluster(null),
    );
  const out = () => {
    stopLive();
    setCluster(null);
  };
  useEffect(() => {
    onSignedOut(out);
    void enter();
  }, []);
  if (cluster === undefined) return null;
  if (cluster === null) {
    return (
      <>
        <div class="corner"><Theme /></div>
        <SignIn onSignedIn={() => void enter()} />
      </>
    );
  }
  return <Frame cluster={cluster} onLeave={() => void remove("session").finally(out)} />;
}

const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<App />, root);
}

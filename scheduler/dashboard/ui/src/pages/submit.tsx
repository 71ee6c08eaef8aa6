// Submit from the browser: drop a .wasm, choose an export, fill in what it takes, watch what comes back.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, post, upload } from "../api.ts";
import { bytes, digest as shortDigest } from "../format.ts";
import { useLive } from "../live.ts";
import { ArtifactFacts, Signature, isCallable } from "../parts/artifact.tsx";
import { ValueField } from "../parts/form.tsx";
import { LogView } from "../parts/logview.tsx";
import { Badge, Empty, JobLink, Panel, Problem, Progress } from "../parts/parts.tsx";
import { ResultsView } from "../parts/results.tsx";
import { setQuery, usePlace } from "../router.ts";
import { type Described, type Export, type Failure, type Job, exportName } from "../types.ts";
import { failureOf, useGet, useNow } from "../use.ts";
import { canAsk, first, parse } from "../wit.ts";

const ARTIFACT_BYTES_MAX = 256 * 1024 * 1024;

export function Submit() {
  const { query } = usePlace();
  const digest = query.get("artifact");
  const [artifact, setArtifact] = useState<Described | null>(null);
  const [name, setName] = useState("");
  const [failure, setFailure] = useState<Failure | null>(null);
  const [busy, setBusy] = useState(false);

  useEffect(() => {
    if (!digest || artifact?.digest === digest) return;
    get<Described>(`artifacts/${digest}`).then(setArtifact, (error: unknown) => setFailure(failureOf(error)));
  }, [digest]);

  const take = useCallback((file: File | undefined) => {
    if (!file) return;
    setFailure(null);
    if (file.size > ARTIFACT_BYTES_MAX) {
      setFailure({ code: "RW0104", message: `${file.name} has ${bytes(file.size)}, but an artifact may have ${bytes(ARTIFACT_BYTES_MAX)}` });
      return;
    }
    setBusy(true);
    upload<Described>("artifacts", file)
      .then(
        (described) => {
          setArtifact(described);
          setName(file.name);
          setQuery({ artifact: described.digest, export: undefined });
        },
        (error: unknown) => setFailure(failureOf(error)),
      )
      .finally(() => setBusy(false));
  }, []);

  return (
    <>
      <h1>Submit</h1>
      <Drop busy={busy} onFile={take} small={artifact !== null} />
      <Problem failure={failure} />
      {artifact ? <Call key={artifact.digest} artifact={artifact} name={name} wanted={query.get("export")} /> : null}
    </>
  );
}

function Drop({ busy, small, onFile }: { busy: boolean; small: boolean; onFile: (file: File | undefined) => void }) {
  const [over, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  return (
    <div
      class={`drop${over ? " over" : ""}${small ? " small" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        onFile(event.dataTransfer?.files[0]);
      }}
    >
      <p aria-live="polite">{busy ? "Sending and looking into it" : small ? "Drop another .wasm here" : "Drop a .wasm here"}</p>
      <label class="button">
        Choose a file
        <input ref={input} type="file" accept=".wasm,.wat,application/wasm" class="hidden-input" onChange={(event) => onFile(event.currentTarget.files?.[0])} />
      </label>
      {small ? null : <p class="soft">A component, a WASI program or a plain module. It gets nothing of the world that is not given below.</p>}
    </div>
  );
}

function Call({ artifact, name, wanted }: { artifact: Described; name: string; wanted: string | null }) {
  const callable = artifact.info.exports.filter(isCallable);
  const [chosen, setChosen] = useState(() => callable.find((of) => exportName(of) === wanted) ?? callable[0]);
  return (
    <>
      <Panel title={name || "Artifact"} side={<code class="soft">{shortDigest(artifact.digest)}</code>}>
        <ArtifactFacts info={artifact.info} />
      </Panel>
      {chosen ? (
        <Panel title="Call">
          <fieldset class="choices">
            <legend class="hidden">Export</legend>
            {callable.map((of) => (
              <label key={exportName(of)} class={of === chosen ? "choice on" : "choice"}>
                <input type="radio" name="export" checked={of === chosen} onChange={() => (setChosen(of), setQuery({ export: exportName(of) }))} />
                <Signature of={of} />
              </label>
            ))}
          </fieldset>
          <CallForm key={exportName(chosen)} artifact={artifact} of={chosen} name={name} />
        </Panel>
      ) : (
        <Empty>The artifact exports nothing that can be called.</Empty>
      )}
    </>
  );
}

interface Needs {
  cpus: string;
  memory: string;
  timeout: string;
  priority: string;
}

function CallForm({ artifact, of, name }: { artifact: Described; of: Export; name: string }) {
  const command = of.role === "command";
  const types = useMemo(() => of.signature.params.map((param) => ({ name: param.name, type: parse(param.ty) })), [of]);
  const [values, setValues] = useState<unknown[]>(() => types.map(({ type }) => first(type)));
  const [wrong, setWrong] = useState<Map<string, string>>(new Map());
  const [args, setArgs] = useState("");
  const [env, setEnv] = useState("");
  const [stdin, setStdin] = useState("");
  const [needs, setNeeds] = useState<Needs>({ cpus: "1", memory: "", timeout: "", priority: "0" });
  const [failure, setFailure] = useState<Failure | null>(null);
  const [busy, setBusy] = useState(false);
  const [job, setJob] = useState<string | null>(null);

  const onWrong = useCallback((path: string, why: string | null) => {
    setWrong((old) => {
      if ((old.get(path) ?? null) === why) return old;
      const next = new Map(old);
      if (why === null) next.delete(path);
      else next.set(path, why);
      return next;
    });
  }, []);

  const run = () => {
    const options = {
      cpus: needs.cpus.trim() || "1",
      ...(needs.memory ? { memory_bytes: Math.round(Number(needs.memory) * 1024 * 1024) } : {}),
      ...(needs.timeout ? { timeout_ms: Math.round(Number(needs.timeout) * 1000) } : {}),
      priority: Number(needs.priority || "0"),
    };
    const lines = (text: string) => text.split("\n").filter((line) => line !== "");
    const variables = lines(env).map((line) => {
      const [key = "", ...rest] = line.split("=");
      return [key, rest.join("=")];
    });
    const what = command ? { args: lines(args), env: Object.fromEntries(variables), stdin } : { export: exportName(of), calls: [values] };
    setBusy(true);
    setFailure(null);
    post<{ job: string }>("jobs", { artifact: artifact.digest, name: name || of.name.func, options, ...what })
      .then(
        (made) => setJob(made.job),
        (error: unknown) => setFailure(failureOf(error)),
      )
      .finally(() => setBusy(false));
  };
  const need = (name: keyof Needs, label: string, placeholder: string) => (
    <label class="field">
      <span>{label}</span>
      <input inputMode="decimal" class="number small" value={needs[name]} placeholder={placeholder} onInput={(event) => setNeeds({ ...needs, [name]: event.currentTarget.value })} />
    </label>
  );

  if (!types.every(({ type }) => canAsk(type))) {
    return <Empty>A parameter of this export cannot be written in a form.</Empty>;
  }
  return (
    <>
      <form
        class="call"
        aria-label={`Call ${of.name.func}`}
        onSubmit={(event) => {
          event.preventDefault();
          run();
        }}
      >
        {types.map(({ name, type }, index) => (
          <ValueField
            key={name}
            label={name}
            type={type}
            value={values[index]}
            path={name}
            onWrong={onWrong}
            onChange={(next) => setValues((old) => old.map((value, at) => (at === index ? next : value)))}
          />
        ))}
        {command ? (
          <>
            <label class="field"><span>Arguments, one a line</span><textarea rows={2} value={args} onInput={(event) => setArgs(event.currentTarget.value)} spellcheck={false} /></label>
            <label class="field"><span>Variables, NAME=VALUE, one a line</span><textarea rows={2} value={env} onInput={(event) => setEnv(event.currentTarget.value)} spellcheck={false} /></label>
            <label class="field"><span>Standard input</span><textarea rows={3} value={stdin} onInput={(event) => setStdin(event.currentTarget.value)} spellcheck={false} /></label>
          </>
        ) : null}
        <details>
          <summary>What it needs, and where it ends</summary>
          <div class="row wrap">
            {need("cpus", "Cores", "1")}
            {need("memory", "Memory, MiB", "512")}
            {need("timeout", "Time limit, seconds", "a day")}
            {need("priority", "Priority", "0")}
          </div>
        </details>
        <Problem failure={failure} />
        <button type="submit" class="primary" disabled={busy || wrong.size > 0}>
          {busy ? "Submitting" : "Run"}
        </button>
      </form>
      {job ? <Watch key={job} id={job} /> : null}
    </>
  );
}

function Watch({ id }: { id: string }) {
  const { jobs } = useLive();
  const now = useNow(500);
  const known = jobs.get(id);
  const { data } = useGet<Job>(`jobs/${id}`, {}, known?.ended_ms ? "ended" : now);
  const job = known?.ended_ms ? known : (data ?? known);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.scrollIntoView({ block: "nearest" }), []);
  return (
    <div class="watch" ref={box}>
      <div class="row">
        <JobLink id={id} />
        <span aria-live="polite">{job ? <Badge state={job.state} /> : "submitted"}</span>
        <div class="grow">{job ? <Progress tasks={job.tasks} /> : null}</div>
      </div>
      <Problem failure={job?.error ?? null} />
      <ResultsView job={id} />
      <Panel title="Output" flush>
        <LogView job={id} follow />
      </Panel>
    </div>
  );
}

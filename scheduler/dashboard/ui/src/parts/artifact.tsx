// What an artifact offers and needs.

import { bytes, digest as shortDigest, plural } from "../format.ts";
import { href } from "../router.ts";
import { type ArtifactInfo, type Described, type Export, exportName } from "../types.ts";
import { useGet } from "../use.ts";
import { Badge, Empty, Facts, Panel, Problem } from "./parts.tsx";

export function Signature({ of }: { of: Export }) {
  const { params, result } = of.signature;
  return (
    <code class="signature">
      <b>{exportName(of)}</b>(
      {params.map((param, index) => (
        <span key={param.name}>
          {index > 0 ? ", " : ""}
          {param.name}: <i>{param.ty}</i>
        </span>
      ))}
      ){result ? <span> → <i>{result}</i></span> : null}
    </code>
  );
}

function roleOf(of: Export): string {
  return typeof of.role === "string" ? of.role : (Object.keys(of.role)[0] ?? "");
}

export function isCallable(of: Export): boolean {
  return of.role === "task" || of.role === "command";
}

export function ArtifactFacts({ info }: { info: ArtifactInfo }) {
  const needs = info.imports.filter((one) => one.need !== "provided");
  return (
    <Facts
      rows={[
        ["Kind", info.kind.replaceAll("-", " ")],
        ["Size", bytes(info.size_bytes)],
        ["Memory at the start", bytes(info.memory_initial_bytes)],
        ["Profile", info.profile],
        ["Imports", plural(info.imports.length, "interface")],
        ["Needs", needs.length === 0 ? "nothing that must be granted" : needs.map((one) => `${one.name} (${typeof one.need === "string" ? one.need : one.need.grant})`).join(", ")],
      ]}
    />
  );
}

export function ArtifactCard({ digest }: { digest: string }) {
  const { data, failure } = useGet<Described>(`artifacts/${digest}`);
  return (
    <Panel
      title={<code>{shortDigest(digest)}</code>}
      side={<a class="button" href={href(["submit"], { artifact: digest })}>Call it</a>}
    >
      <Problem failure={failure} />
      {data ? (
        <>
          <ArtifactFacts info={data.info} />
          <p class="soft break"><code>{digest}</code></p>
          <ul class="exports">
            {data.info.exports.map((of) => (
              <li key={exportName(of)}>
                <Signature of={of} />
                {isCallable(of) ? (
                  <a href={href(["submit"], { artifact: digest, export: exportName(of) })}>{roleOf(of) === "command" ? "Run" : "Call"}</a>
                ) : (
                  <Badge state={roleOf(of)} />
                )}
              </li>
            ))}
          </ul>
        </>
      ) : failure ? null : (
        <Empty>Loading</Empty>
      )}
    </Panel>
  );
}

// Nodes: what each gives, and what tasks hold of it.

import { ago, bytes, count, duration } from "../format.ts";
import { useLive } from "../live.ts";
import { Badge, Empty, Facts, Meter } from "../parts/parts.tsx";
import { href } from "../router.ts";
import type { Node } from "../types.ts";
import { useGet, useNow } from "../use.ts";

function Card({ node, now }: { node: Node; now: number }) {
  const { capacity, used } = node;
  const custom = Object.entries(capacity.custom ?? {});
  return (
    <section class={node.alive ? "panel node" : "panel node lost"} aria-label={`Node ${node.id}`}>
      <header>
        <h2>
          {node.id} <span class="soft">{node.name}</span>
        </h2>
        <span class="row tight">
          {node.head ? <Badge state="head" /> : null}
          <Badge state={node.alive ? "alive" : "lost"} />
        </span>
      </header>
      <Meter label="Cores" used={Number(used.cpu)} all={Number(capacity.cpu)} text={`${used.cpu} of ${capacity.cpu}`} />
      <Meter label="Memory for tasks" used={used.memory} all={capacity.memory} text={`${bytes(used.memory)} of ${bytes(capacity.memory)}`} />
      {Number(capacity.gpu) > 0 ? <Meter label="Graphics processors" used={Number(used.gpu)} all={Number(capacity.gpu)} text={`${used.gpu} of ${capacity.gpu}`} /> : null}
      {custom.map(([name, all]) => (
        <Meter key={name} label={name} used={Number(used.custom?.[name] ?? 0)} all={Number(all)} text={`${used.custom?.[name] ?? 0} of ${all}`} />
      ))}
      <Facts
        rows={[
          ["Slots in use", <a href={href(["tasks"], { node: node.id, state: "running" })}>{count(node.tasks_running)}</a>],
          ["Tasks that wait", count(node.tasks_queued)],
          ["Its daemon", bytes(node.memory_bytes)],
          [node.alive ? "Joined" : "Lost", node.alive ? `${duration(now - node.joined_ms)} ago` : ago(node.lost_ms ?? 0, now)],
          ["Address", <span class="break">{node.gateway_address || node.data_address || "in the head's process"}</span>],
          ...(Object.keys(node.labels).length > 0 ? [["Labels", Object.entries(node.labels).map(([key, value]) => `${key}=${value}`).join(", ")] as [string, string]] : []),
        ]}
      />
    </section>
  );
}

export function Nodes() {
  const { nodes: live } = useLive();
  const now = useNow();
  const first = useGet<{ rows: Node[] }>(live.length === 0 ? "nodes" : null);
  const nodes = live.length > 0 ? live : (first.data?.rows ?? []);
  const alive = nodes.filter((node) => node.alive).length;
  return (
    <>
      <h1>Nodes</h1>
      <p class="soft count" role="status">
        {count(alive)} alive{alive < nodes.length ? `, ${nodes.length - alive} lost within the hour` : ""}
      </p>
      {nodes.length === 0 ? <Empty>No node yet.</Empty> : null}
      <div class="cards">
        {nodes.map((node) => (
          <Card key={node.id} node={node} now={now} />
        ))}
      </div>
    </>
  );
}

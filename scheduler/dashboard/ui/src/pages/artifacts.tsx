// Artifacts that the cluster stores, and what one offers.

import { ago, bytes, count, digest as shortDigest, time } from "../format.ts";
import { ArtifactCard } from "../parts/artifact.tsx";
import { Missing, Problem } from "../parts/parts.tsx";
import { type Column, Table } from "../parts/table.tsx";
import { href } from "../router.ts";
import type { Artifact } from "../types.ts";
import { usePages } from "../use.ts";

const COLUMNS: Column<Artifact>[] = [
  { title: "Artifact", width: "minmax(9rem, 1fr)", cell: (row) => <a href={href(["artifacts", row.digest])}><code>{shortDigest(row.digest)}</code></a> },
  { title: "Size", width: "7rem", cell: (row) => bytes(row.size_bytes), number: true },
  { title: "Stored", width: "8rem", cell: (row) => <span title={time(row.stored_ms)}>{ago(row.stored_ms)}</span>, number: true },
  { title: "Tenant", width: "minmax(6rem, 1fr)", cell: (row) => row.tenant, wide: true },
];

function All() {
  const artifacts = usePages<Artifact>("artifacts", {});
  return (
    <>
      <h1>Artifacts</h1>
      <div class="filters">
        <a class="button primary" href={href(["submit"])}>Add one</a>
      </div>
      <Problem failure={artifacts.failure} />
      <Missing lines={artifacts.missing} />
      <p class="soft count" role="status">{count(artifacts.total)} stored</p>
      <Table label="Artifacts" columns={COLUMNS} rows={artifacts.rows} nameOf={(row) => row.digest} total={artifacts.total} more={artifacts.more} empty={artifacts.loading ? "" : "Nothing was stored yet."} />
    </>
  );
}

export function Artifacts({ digest }: { digest: string | undefined }) {
  if (!digest) return <All />;
  return (
    <>
      <p class="crumbs">
        <a href={href(["artifacts"])}>Artifacts</a>
      </p>
      <h1>Artifact</h1>
      <ArtifactCard digest={digest} />
    </>
  );
}

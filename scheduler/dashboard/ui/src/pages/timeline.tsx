// What the whole cluster ran, live.

import { Timeline } from "../parts/timeline.tsx";

export function TimelinePage() {
  return (
    <>
      <h1>Timeline</h1>
      <Timeline />
    </>
  );
}

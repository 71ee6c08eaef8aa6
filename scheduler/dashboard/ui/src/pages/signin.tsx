// The one page without a session.

import { useState } from "preact/hooks";
import { post } from "../api.ts";
import { Problem } from "../parts/parts.tsx";
import type { Failure } from "../types.ts";
import { failureOf } from "../use.ts";

export function SignIn({ onSignedIn }: { onSignedIn: () => void }) {
  const [failure, setFailure] = useState<Failure | null>(null);
  const [busy, setBusy] = useState(false);
  return (
    <main class="signin">
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault();
          const token = String(new FormData(event.currentTarget).get("token") ?? "");
          setBusy(true);
          post("session", { token })
            .then(onSignedIn, (error: unknown) => setFailure(failureOf(error)))
            .finally(() => setBusy(false));
        }}
      >
        <img src="/icon.svg" alt="" width="40" height="40" />
        <h1>Sign in to rwasm</h1>
        <p class="soft">
          With the cluster's token. <code>rwasm start --head</code> said which file holds it.
        </p>
        <label class="field">
          <span>Token</span>
          <input name="token" type="password" autocomplete="current-password" required autofocus spellcheck={false} />
        </label>
        <Problem failure={failure} />
        <button type="submit" class="primary" disabled={busy}>
          Sign in
        </button>
      </form>
    </main>
  );
}

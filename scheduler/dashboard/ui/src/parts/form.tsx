// A form for a value of any WIT type. It holds the JSON of the value; what cannot be right is said beside the field, before anything is sent.

import { useEffect, useId, useState } from "preact/hooks";
import { bytes } from "../format.ts";
import { type Type, first, isBytes, range, readNumber } from "../wit.ts";

interface Field<T extends Type = Type> {
  label: string;
  type: T;
  value: unknown;
  onChange: (value: unknown) => void;
  /** Told what is wrong, or that nothing is; `path` tells fields apart. */
  onWrong: (path: string, wrong: string | null) => void;
  path: string;
}

/** The type in words, beside the name. */
function hint(type: Type): string {
  switch (type.kind) {
    case "scalar":
      return type.name;
    case "list":
      return isBytes(type) ? "bytes" : type.length === undefined ? "list" : `list of ${type.length}`;
    case "option":
      return `optional ${hint(type.of)}`;
    default:
      return type.kind;
  }
}

export function ValueField(field: Field) {
  const { type } = field;
  switch (type.kind) {
    case "scalar":
      return type.name === "bool" ? <Bool {...field} /> : type.name === "string" ? <Text {...field} /> : type.name === "char" ? <Char {...field} /> : <Numeric {...field} type={type} />;
    case "enum":
      return <Choice {...field} names={type.names} chosen={String(field.value)} onChoose={field.onChange} />;
    case "flags":
      return <Flags {...field} type={type} />;
    case "list":
      return isBytes(type) ? <Bytes {...field} /> : <List {...field} type={type} />;
    case "map":
      return <Pairs {...field} type={type} />;
    case "tuple":
      return <Parts {...field} parts={type.of.map((ty, index) => ({ name: `${index + 1}`, ty }))} tuple />;
    case "record":
      return <Parts {...field} parts={type.fields} />;
    case "option":
      return <Optional {...field} type={type} />;
    case "variant":
      return <Cases {...field} cases={type.cases} />;
    case "result":
      return <Cases {...field} cases={[{ name: "ok", ty: type.ok }, { name: "err", ty: type.err }]} always />;
    case "other":
      return <p class="soft">{field.label}: <code>{type.text}</code> cannot be written in a form</p>;
  }
}

function Label({ id, label, type }: { id: string; label: string; type: string }) {
  return (
    <label for={id}>
      {label} <span class="type">{type}</span>
    </label>
  );
}

function Bool({ label, value, onChange }: Field) {
  const id = useId();
  return (
    <div class="value check">
      <input id={id} type="checkbox" checked={value === true} onChange={(event) => onChange(event.currentTarget.checked)} />
      <Label id={id} label={label} type="bool" />
    </div>
  );
}

function Text({ label, value, onChange }: Field) {
  const id = useId();
  return (
    <div class="value">
      <Label id={id} label={label} type="string" />
      <textarea id={id} rows={1} value={String(value)} onInput={(event) => onChange(event.currentTarget.value)} spellcheck={false} />
    </div>
  );
}

function Char({ label, value, onChange, onWrong, path }: Field) {
  const id = useId();
  const [text, setText] = useState(String(value));
  const wrong = [...text].length === 1 ? null : "one character is needed";
  useEffect(() => (onWrong(path, wrong), () => onWrong(path, null)), [wrong, path]);
  return (
    <div class="value">
      <Label id={id} label={label} type="char" />
      <input
        id={id}
        class="small"
        value={text}
        aria-invalid={wrong !== null}
        onInput={(event) => {
          setText(event.currentTarget.value);
          onChange(event.currentTarget.value);
        }}
      />
      {wrong ? <span class="wrong">{wrong}</span> : null}
    </div>
  );
}

function Numeric({ label, type, value, onChange, onWrong, path }: Field<Extract<Type, { kind: "scalar" }>>) {
  const id = useId();
  const [text, setText] = useState(String(value));
  const read = readNumber(type.name, text);
  const wrong = "wrong" in read ? read.wrong : null;
  useEffect(() => (onWrong(path, wrong), () => onWrong(path, null)), [wrong, path]);
  return (
    <div class="value">
      <Label id={id} label={label} type={type.name} />
      <input
        id={id}
        class="number"
        inputMode={range(type.name) ? "numeric" : "decimal"}
        value={text}
        aria-invalid={wrong !== null}
        aria-describedby={wrong ? `${id}-wrong` : undefined}
        onInput={(event) => {
          const typed = event.currentTarget.value;
          setText(typed);
          const read = readNumber(type.name, typed);
          if ("value" in read) onChange(read.value);
        }}
      />
      {wrong ? <span class="wrong" id={`${id}-wrong`}>{wrong}</span> : null}
    </div>
  );
}

function Choice({ label, type, names, chosen, onChoose }: Field & { names: string[]; chosen: string; onChoose: (name: string) => void }) {
  const id = useId();
  return (
    <div class="value">
      <Label id={id} label={label} type={type.kind} />
      <select id={id} value={chosen} onChange={(event) => onChoose(event.currentTarget.value)}>
        {names.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </div>
  );
}

function Flags({ label, type, value, onChange }: Field<Extract<Type, { kind: "flags" }>>) {
  const set = new Set(value as string[]);
  return (
    <fieldset class="value">
      <legend>
        {label} <span class="type">flags</span>
      </legend>
      <div class="row wrap">
        {type.names.map((name) => (
          <label key={name} class="row tight">
            <input
              type="checkbox"
              checked={set.has(name)}
              onChange={(event) => onChange(type.names.filter((known) => (known === name ? event.currentTarget.checked : set.has(known))))}
            />
            {name}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

function toBase64(data: Uint8Array): string {
  let text = "";
  for (let at = 0; at < data.length; at += 0x8000) text += String.fromCharCode(...data.subarray(at, at + 0x8000));
  return btoa(text);
}

function Bytes({ label, onChange }: Field) {
  const id = useId();
  const [size, setSize] = useState(0);
  const take = (data: Uint8Array) => {
    setSize(data.length);
    onChange(toBase64(data));
  };
  return (
    <div class="value">
      <Label id={id} label={label} type="bytes" />
      <div class="row wrap">
        <input id={id} type="file" onChange={async (event) => {
          const file = event.currentTarget.files?.[0];
          if (file) take(new Uint8Array(await file.arrayBuffer()));
        }} />
        <input type="text" class="grow" placeholder="or text" aria-label={`${label}, as text`} onInput={(event) => take(new TextEncoder().encode(event.currentTarget.value))} />
      </div>
      <span class="soft">{bytes(size)}</span>
    </div>
  );
}

function List({ label, type, value, onChange, onWrong, path }: Field<Extract<Type, { kind: "list" }>>) {
  const items = value as unknown[];
  // Items have no names; counting how they came lets a field stay with its item when another is taken out.
  const [keys, setKeys] = useState(() => items.map((_, index) => index));
  return (
    <fieldset class="value nest">
      <legend>
        {label} <span class="type">{hint(type)}</span>
      </legend>
      {items.map((item, index) => (
        <div class="item" key={keys[index]}>
          <div class="grow">
            <ValueField
              label={`${label} ${index + 1}`}
              type={type.of}
              value={item}
              path={`${path}/${keys[index]}`}
              onWrong={onWrong}
              onChange={(next) => onChange(items.map((known, at) => (at === index ? next : known)))}
            />
          </div>
          {type.length === undefined ? (
            <button type="button" class="quiet" aria-label={`Remove ${label} ${index + 1}`} onClick={() => {
              setKeys(keys.filter((_, at) => at !== index));
              onChange(items.filter((_, at) => at !== index));
            }}>
              ×
            </button>
          ) : null}
        </div>
      ))}
      {type.length === undefined ? (
        <button type="button" class="quiet" onClick={() => {
          setKeys([...keys, Math.max(-1, ...keys) + 1]);
          onChange([...items, first(type.of)]);
        }}>
          Add to {label}
        </button>
      ) : null}
    </fieldset>
  );
}

function Pairs(field: Field<Extract<Type, { kind: "map" }>>) {
  const { type } = field;
  const pair: Type = { kind: "list", of: { kind: "tuple", of: [type.key, type.value] } };
  return <List {...field} type={pair} />;
}

function Parts({ label, parts, tuple, value, onChange, onWrong, path, type }: Field & { parts: { name: string; ty: Type }[]; tuple?: boolean }) {
  return (
    <fieldset class="value nest">
      <legend>
        {label} <span class="type">{hint(type)}</span>
      </legend>
      {parts.map((part, index) => {
        const held = tuple ? (value as unknown[])[index] : (value as Record<string, unknown>)[part.name];
        const change = (next: unknown) =>
          onChange(tuple ? (value as unknown[]).map((known, at) => (at === index ? next : known)) : { ...(value as object), [part.name]: next });
        return <ValueField key={part.name} label={part.name} type={part.ty} value={held} path={`${path}/${part.name}`} onWrong={onWrong} onChange={change} />;
      })}
    </fieldset>
  );
}

/** An option of an option tells its two absences apart: the inner value is wrapped. */
function Optional({ label, type, value, onChange, onWrong, path }: Field<Extract<Type, { kind: "option" }>>) {
  const id = useId();
  const nested = type.of.kind === "option";
  const [given, setGiven] = useState(value !== null);
  const inner = nested && given && value !== null ? (value as { some: unknown }).some : value;
  const wrap = (next: unknown) => onChange(nested ? { some: next } : next);
  return (
    <div class="value nest">
      <div class="check">
        <input id={id} type="checkbox" checked={given} onChange={(event) => {
          const give = event.currentTarget.checked;
          setGiven(give);
          if (give) wrap(first(type.of));
          else onChange(null);
        }} />
        <Label id={id} label={`Give ${label}`} type={hint(type)} />
      </div>
      {given ? <ValueField label={label} type={type.of} value={inner} path={`${path}/some`} onWrong={onWrong} onChange={wrap} /> : null}
    </div>
  );
}

function Cases(field: Field & { cases: { name: string; ty: Type | null }[]; always?: boolean }) {
  const { label, cases, always, value, onChange, onWrong, path } = field;
  const name = typeof value === "string" ? value : (Object.keys(value as object)[0] ?? "");
  const chosen = cases.find((one) => one.name === name);
  const choose = (name: string) => {
    const next = cases.find((one) => one.name === name);
    onChange(next?.ty || always ? { [name]: first(next?.ty ?? null) } : name);
  };
  return (
    <div class="value nest">
      <Choice {...field} names={cases.map((one) => one.name)} chosen={name} onChoose={choose} />
      {chosen?.ty ? (
        <ValueField
          key={name}
          label={`${label}, ${name}`}
          type={chosen.ty}
          value={(value as Record<string, unknown>)[name]}
          path={`${path}/${name}`}
          onWrong={onWrong}
          onChange={(next) => onChange({ [name]: next })}
        />
      ) : null}
    </div>
  );
}

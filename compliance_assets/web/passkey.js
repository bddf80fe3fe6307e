// Speaks to a passkey, and puts what it answers into the fields of the form that asked. It fetches nothing and writes no markup.
"use strict";

const encoder = new TextEncoder();
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const text = (buffer) => btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(""));

// The bytes to sign: a statement in the envelope's encoding (DSSE), exactly as this page shows it, or a sentence of the form's own.
function message(form) {
  const shown = form.dataset.statement && document.getElementById(form.dataset.statement).textContent;
  if (!shown) return encoder.encode(form.dataset.message);
  const payload = encoder.encode(shown);
  const head = encoder.encode(`DSSEv1 ${form.dataset.type.length} ${form.dataset.type} ${payload.length} `);
  const whole = new Uint8Array(head.length + payload.length);
  whole.set(head);
  whole.set(payload, head.length);
  return whole;
}

async function sign(form) {
  const challenge = await crypto.subtle.digest("SHA-256", message(form));
  const named = JSON.parse(form.dataset.credentials).map((id) => ({type: "public-key", id: bytes(id)}));
  const found = await navigator.credentials.get({publicKey: {
    challenge, rpId: form.dataset.party, allowCredentials: named, userVerification: "required", timeout: 120000}});
  form.elements.credential.value = text(found.rawId);
  form.elements.authenticator_data.value = text(found.response.authenticatorData);
  form.elements.client_data.value = text(found.response.clientDataJSON);
  form.elements.signature.value = text(found.response.signature);
}

async function enrol(form) {
  const name = form.elements.person.value.trim();
  const user = await crypto.subtle.digest("SHA-256", encoder.encode(name));
  const made = await navigator.credentials.create({publicKey: {
    challenge: crypto.getRandomValues(new Uint8Array(32)), rp: {id: form.dataset.party, name: form.dataset.name},
    user: {id: user, name, displayName: name}, attestation: "none", timeout: 120000,
    pubKeyCredParams: [-7, -8, -257].map((alg) => ({type: "public-key", alg})),
    authenticatorSelection: {residentKey: "required", userVerification: "required"}}});
  const key = made.response.getPublicKey();
  const algorithm = {"-7": "ES256", "-8": "EdDSA", "-257": "RS256"}[made.response.getPublicKeyAlgorithm()];
  if (!key || !algorithm) throw new Error("This passkey has a kind of key that is not accepted here.");
  form.elements.credential.value = text(made.rawId);
  form.elements.key.value = `${algorithm}:${text(key)}`;
}

function ready(form) {
  const said = form.querySelector("[role=status]");
  const button = form.querySelector("button");
  if (!window.PublicKeyCredential && location.origin === form.dataset.origin) {
    said.textContent = "This browser offers no passkeys here: open the address that these pages name, over https or on localhost.";
    return;
  }
  if (location.origin !== form.dataset.origin) {
    said.textContent = `Browsers keep these passkeys for ${form.dataset.origin} only: open that address.`;
    return;
  }
  button.disabled = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    said.textContent = "Waiting for your passkey …";
    try {
      await (form.dataset.passkey === "enrol" ? enrol(form) : sign(form));
    } catch (error) {
      said.textContent = `Nothing was signed. ${error.name === "NotAllowedError" ? "The passkey was not used, or not in time." : error.message}`;
      button.disabled = false;
      return;
    }
    said.textContent = "Signed; sending …";
    form.submit();
  });
}

document.querySelectorAll("form[data-passkey]").forEach(ready);

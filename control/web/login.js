// The login: takes the part of the address behind # along, and goes on where one is in already.
//
// A link from elsewhere, a mail say, comes without the cookie, as that is for our own pages alone;
// a request of this page has it.

const form = document.getElementById("login");

function keepPlace() {
  form.action = `/login${location.hash}`;
}

keepPlace();
addEventListener("hashchange", keepPlace);

if (document.getElementById("problem").textContent === "") {
  const answer = await fetch("/", { method: "HEAD", redirect: "manual" }).catch(() => null);
  if (answer?.ok) location.replace(`/${location.hash}`);
}

/** Colours for the text of a program: enough of JavaScript's words for an editor. */

const WORDS =
  /(\/\/[^\n]*|\/\*[\s\S]*?\*\/)|("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\b(import|from|export|default|async|await|function|const|let|for|of|in|while|if|else|return|new|throw|try|catch|finally|break|continue|null|true|false|undefined|void|class|yield|typeof|instanceof)\b|\b(\d[\d_]*(?:\.\d+)?)\b/g;
const CLASSES = ["", "comment", "string", "word", "number"];

/** Gives HTML with a `<span>` for each coloured piece. */
export function highlight(source: string): string {
  let html = "";
  let end = 0;
  for (const match of source.matchAll(WORDS)) {
    const kind = match.slice(1).findIndex((group) => group !== undefined) + 1;
    html += `${escape(source.slice(end, match.index))}<span class="pg-${CLASSES[kind]}">${escape(match[0])}</span>`;
    end = match.index + match[0].length;
  }
  return `${html}${escape(source.slice(end))}\n`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

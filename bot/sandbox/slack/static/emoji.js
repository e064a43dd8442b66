// Emoji by Slack's short names. Where the machine has no colour emoji font, the commonest are drawn as SVG.

const NAMES = {
  white_check_mark: "✅", heavy_check_mark: "✔️", ballot_box_with_check: "☑️", x: "❌", warning: "⚠️", no_entry: "⛔",
  no_entry_sign: "🚫", octagonal_sign: "🛑", hourglass: "⌛", hourglass_flowing_sand: "⏳", arrows_counterclockwise: "🔄",
  repeat: "🔁", lock: "🔒", unlock: "🔓", closed_lock_with_key: "🔐", key: "🔑", old_key: "🗝️", mag: "🔍", rocket: "🚀",
  information_source: "ℹ️", bell: "🔔", alarm_clock: "⏰", stopwatch: "⏱️", clock1: "🕐", tada: "🎉", eyes: "👀", octopus: "🐙",
  memo: "📝", hammer_and_wrench: "🛠️", wrench: "🔧", gear: "⚙️", large_green_circle: "🟢", red_circle: "🔴",
  large_yellow_circle: "🟡", large_orange_circle: "🟠", large_blue_circle: "🔵", white_circle: "⚪", black_circle: "⚫",
  rotating_light: "🚨", wave: "👋", robot_face: "🤖", point_right: "👉", arrow_right: "➡️", arrow_left: "⬅️",
  leftwards_arrow_with_hook: "↩️", arrow_heading_down: "⤵️", link: "🔗", calendar: "📅", thumbsup: "👍", "+1": "👍",
  thumbsdown: "👎", "-1": "👎", raised_hand: "✋", broom: "🧹", hand: "✋", clap: "👏", pray: "🙏", heart: "❤️", sparkles: "✨",
  fire: "🔥", boom: "💥", bulb: "💡", question: "❓", exclamation: "❗", grey_question: "❔", heavy_minus_sign: "➖",
  heavy_plus_sign: "➕", pause_button: "⏸️", double_vertical_bar: "⏸️", black_square_for_stop: "⏹️", stop_button: "⏹️",
  arrow_forward: "▶️", next_track_button: "⏭️", fast_forward: "⏩", shield: "🛡️", scroll: "📜", clipboard: "📋",
  package: "📦", computer: "💻", desktop_computer: "🖥️", satellite: "📡", electric_plug: "🔌", zzz: "💤", snowflake: "❄️",
  speech_balloon: "💬", bust_in_silhouette: "👤", busts_in_silhouette: "👥", white_small_square: "▫️", black_small_square: "▪️",
  small_blue_diamond: "🔹", small_orange_diamond: "🔸", heavy_multiplication_x: "✖️", fast: "⏩", page_facing_up: "📄",
  label: "🏷️", seedling: "🌱", recycle: "♻️", construction: "🚧", chart_with_upwards_trend: "📈", see_no_evil: "🙈",
  smile: "😄", slightly_smiling_face: "🙂", sweat_smile: "😅", thinking_face: "🤔", sob: "😭", sunglasses: "😎", hugging_face: "🤗",
};

const circle = (fill, inner) => `<circle cx="10" cy="10" r="9" fill="${fill}"/>${inner || ""}`;
const stroke = (d, color = "#fff", width = 2.2) =>
  `<path d="${d}" fill="none" stroke="${color}" stroke-width="${width}" stroke-linecap="round" stroke-linejoin="round"/>`;
const CHECK = "M5.5 10.500l3 3 6-7";
const CROSS = "M6 6l8 8M14 6l-8 8";

const DRAWN = {
  "✅": `<rect x="1.500" y="1.500" width="17" height="17" rx="4" fill="#2fa36b"/>${stroke(CHECK)}`,
  "✔": stroke("M3 11l5 5 9-12", "#2fa36b", 3), "❌": stroke("M3.500 3.500l13 13M16.500 3.500l-13 13", "#dc3545", 3.6),
  "✖": stroke("M4 4l12 12M16 4L4 16", "#dc3545", 3),
  "⚠": `<path d="M10 1.800c.7 0 1.200.4 1.600 1l7 12.600c.7 1.300 0 2.600-1.500 2.600H2.900c-1.500 0-2.200-1.300-1.500-2.600l7-12.600c.4-.6.9-1 1.600-1z" fill="#f5b301"/><path d="M10 7v5M10 14.800v.1" stroke="#3b2f00" stroke-width="2" stroke-linecap="round"/>`,
  "⛔": circle("#dc3545", `<rect x="4.500" y="8.300" width="11" height="3.400" rx="1" fill="#fff"/>`),
  "🚫": `<circle cx="10" cy="10" r="7.800" fill="none" stroke="#dc3545" stroke-width="2.400"/>${stroke("M4.800 4.800l10.400 10.400", "#dc3545", 2.4)}`,
  "🛑": `<path d="M6.300 1.500h7.400l4.800 4.800v7.400l-4.800 4.800H6.300l-4.800-4.800V6.300z" fill="#dc3545"/><path d="M6 10h8" stroke="#fff" stroke-width="2.400" stroke-linecap="round"/>`,
  "⏳": `<path d="M5 2h10M5 18h10" stroke="#8a6d3b" stroke-width="2" stroke-linecap="round"/><path d="M6 3c0 4 3 5 3.400 7C9 12 6 13 6 17h8c0-4-3-5-3.400-7C11 8 14 7 14 3z" fill="#f3d9a4" stroke="#8a6d3b" stroke-width="1.200"/><path d="M7.600 16.400c.4-1.800 1.600-2.400 2.400-3 .8.6 2 1.200 2.400 3zM8 6h4l-2 2.600z" fill="#e0a030"/>`,
  "🔄": `<rect x="1.500" y="1.500" width="17" height="17" rx="4" fill="#3b82f6"/>${stroke("M14.500 8A5 5 0 0 0 5.700 7.500M5.500 12a5 5 0 0 0 8.800.5M14.800 4.800V8h-3M5.200 15.200V12h3", "#fff", 1.7)}`,
  "🔒": `<path d="M6 9V6.500a4 4 0 0 1 8 0V9" fill="none" stroke="#8a8f98" stroke-width="2"/><rect x="4" y="8.500" width="12" height="9" rx="2" fill="#f0b429"/><circle cx="10" cy="12.500" r="1.300" fill="#6b4e00"/><path d="M10 13v2" stroke="#6b4e00" stroke-width="1.400"/>`,
  "🔓": `<path d="M6 9V6a4 4 0 0 1 7.600-1.700" fill="none" stroke="#8a8f98" stroke-width="2"/><rect x="4" y="8.500" width="12" height="9" rx="2" fill="#f0b429"/>`,
  "🔐": `<path d="M6 9V6.500a4 4 0 0 1 8 0V9" fill="none" stroke="#8a8f98" stroke-width="2"/><rect x="4" y="8.500" width="12" height="9" rx="2" fill="#f0b429"/>${stroke("M8 13l1.500 1.500L12.500 11", "#6b4e00", 1.6)}`,
  "🔑": `<circle cx="6.500" cy="7" r="3.600" fill="none" stroke="#e0a030" stroke-width="2.200"/>${stroke("M9 9.500l8 8M14 14.500l2-2M16.300 16.800l1.600-1.600", "#e0a030", 2.2)}`,
  "🔍": `<circle cx="8" cy="8" r="5.400" fill="#cfe6fb" stroke="#5b7083" stroke-width="2"/>${stroke("M12.300 12.300l5 5", "#5b7083", 2.6)}`,
  "🚀": `<path d="M17.500 2.500c-5 0-9 3-11 8l3 3c5-2 8-6 8-11z" fill="#d7dde4"/><circle cx="12.500" cy="7.500" r="1.800" fill="#3b82f6"/><path d="M7 9.500l-4 1 2.500 1.500zM10.500 13l-1 4-1.500-2.500z" fill="#dc3545"/><path d="M5.500 12.500c-2 .5-2.500 3-3 5 2-.5 4.500-1 5-3z" fill="#f5a623"/>`,
  "ℹ": `<rect x="1.500" y="1.500" width="17" height="17" rx="4" fill="#3b82f6"/><path d="M10 9v5.500M10 5.600v.1" stroke="#fff" stroke-width="2.400" stroke-linecap="round"/>`,
  "🎉": `<path d="M2 18l4.500-11 6.500 6.500z" fill="#f0b429"/>${stroke("M11 6c0-2 1-3.500 2.500-4M14 9.500c2-.5 3 0 4 1", "#dc3545", 1.6)}<circle cx="16" cy="5" r="1.300" fill="#3b82f6"/><circle cx="9" cy="3" r="1.100" fill="#2fa36b"/><circle cx="17.500" cy="14" r="1.100" fill="#a855f7"/>`,
  "👀": `<ellipse cx="6" cy="10" rx="4" ry="5.500" fill="#fff" stroke="#8a8f98"/><ellipse cx="14" cy="10" rx="4" ry="5.500" fill="#fff" stroke="#8a8f98"/><circle cx="5" cy="11" r="2" fill="#1f2937"/><circle cx="13" cy="11" r="2" fill="#1f2937"/>`,
  "🐙": `<path d="M10 2C6 2 3.500 5 3.500 8.500c0 2.500 1 3.500 1 5S3 16 2 16c1 1.500 4 1.500 4.500-.5 0 1.500-.5 2.500-1.500 3 2.500.5 4-1 4-3 .3 1 .7 1 1 1s.7 0 1-1c0 2 1.500 3.500 4 3-1-.5-1.500-1.500-1.500-3 .5 2 3.500 2 4.500.5-1 0-2.500-1-2.500-2.500s1-2.500 1-5C16.500 5 14 2 10 2z" fill="#e8639b"/><circle cx="7.600" cy="8.500" r="1.100" fill="#3a0f24"/><circle cx="12.400" cy="8.500" r="1.100" fill="#3a0f24"/>`,
  "📝": `<rect x="3" y="2" width="12" height="16" rx="1.500" fill="#eef1f5" stroke="#9aa3ad"/>${stroke("M5.500 6h7M5.500 9h7M5.500 12h4", "#9aa3ad", 1.2)}<path d="M10 15.500l.8-2.600 5.700-5.700 1.800 1.800-5.700 5.700z" fill="#f5a623"/>`,
  "🔔": `<path d="M10 2a1.500 1.500 0 0 1 1.500 1.500c2.500.7 4 2.700 4 5.500 0 3 1 4 2 5.500h-15c1-1.500 2-2.500 2-5.500 0-2.800 1.500-4.800 4-5.500A1.500 1.500 0 0 1 10 2z" fill="#f0b429"/><path d="M8 16a2 2 0 0 0 4 0z" fill="#b7791f"/>`,
  "🚨": `<path d="M5 14V9a5 5 0 0 1 10 0v5z" fill="#dc3545"/><rect x="3" y="14" width="14" height="3.500" rx="1" fill="#5b6570"/>${stroke("M10 1v1.500M2.500 4.500l1.200 1M17.500 4.500l-1.200 1", "#f5a623", 1.6)}`,
  "⏱": `<circle cx="10" cy="11.500" r="6.500" fill="#fff" stroke="#5b6570" stroke-width="2"/>${stroke("M10 11.500V8M8 2h4M10 2v2.500", "#5b6570", 1.8)}`,
  "⏰": `<circle cx="10" cy="11" r="6.500" fill="#fff" stroke="#dc3545" stroke-width="2"/>${stroke("M10 11V7.500M10 11l2.500 1.500M3 5l2.500-2.500M17 5l-2.500-2.500", "#5b6570", 1.6)}`,
  "🟢": circle("#2fa36b"), "🔴": circle("#dc3545"), "🟡": circle("#f0b429"), "🟠": circle("#f5842c"), "🔵": circle("#3b82f6"),
  "⚪": `<circle cx="10" cy="10" r="8" fill="#eef1f5" stroke="#9aa3ad" stroke-width="1.500"/>`, "⚫": circle("#30363d"),
  "↩": `<rect x="1.500" y="1.500" width="17" height="17" rx="4" fill="#3b82f6"/>${stroke("M8.500 5L5 8.500 8.500 12M5.500 8.500h6a3 3 0 0 1 0 6h-2", "#fff", 1.8)}`,
  "➡": `<rect x="1.500" y="1.500" width="17" height="17" rx="4" fill="#3b82f6"/>${stroke("M5 10h9.500M11 6l4 4-4 4", "#fff", 2)}`,
  "⏸": `<rect x="1.500" y="1.500" width="17" height="17" rx="4" fill="#3b82f6"/>${stroke("M7.500 6v8M12.500 6v8", "#fff", 2.4)}`,
  "⏭": `<rect x="1.500" y="1.500" width="17" height="17" rx="4" fill="#3b82f6"/><path d="M5 6l4 4-4 4zM9.500 6l4 4-4 4z" fill="#fff"/>${stroke("M14.800 6v8", "#fff", 1.8)}`,
  "👍": `<path d="M2 9h3.500v8.500H2zM6.500 9.500L10 2.500c1.500 0 2.300 1 2 2.500l-.6 3H16c1.500 0 2.200 1.200 1.800 2.500l-1.600 5.500c-.3 1-1 1.500-2 1.500H6.500z" fill="#f0b429"/>`,
  "✋": `<path d="M5 10V5.500a1.200 1.200 0 0 1 2.400 0V9 3.500a1.200 1.200 0 0 1 2.400 0V9 4a1.200 1.200 0 0 1 2.400 0v6-3.500a1.200 1.200 0 0 1 2.400 0V13c0 3.500-2 5.500-5 5.500S5 16 3.200 12.500c-.5-1 .8-2 1.800-1z" fill="#f0b429"/>`,
  "🤖": `<rect x="3.500" y="5.500" width="13" height="11" rx="2.500" fill="#9fb3c8"/><circle cx="7.500" cy="10.500" r="1.600" fill="#1f2937"/><circle cx="12.500" cy="10.500" r="1.600" fill="#1f2937"/>${stroke("M7.500 14h5M10 5.500V2.500", "#5b7083", 1.6)}`,
  "🔗": stroke("M8.500 11.500l3-3M9 6l1.500-1.500a3.500 3.500 0 0 1 5 5L14 11M11 14l-1.500 1.500a3.500 3.500 0 0 1-5-5L6 9", "#8a9aaa", 2),
  "💡": `<path d="M10 1.500a6 6 0 0 0-3.500 11c.6.5 1 1.200 1 2h5c0-.8.400-1.500 1-2A6 6 0 0 0 10 1.500z" fill="#f7d154"/><path d="M7.500 16h5M8.300 18h3.400" stroke="#8a8f98" stroke-width="1.600" stroke-linecap="round"/>`,
  "👋": `<path d="M5 10V5.500a1.200 1.200 0 0 1 2.400 0V9 3.500a1.200 1.200 0 0 1 2.400 0V9 4a1.200 1.200 0 0 1 2.400 0v6-3.500a1.200 1.200 0 0 1 2.400 0V13c0 3.500-2 5.500-5 5.500S5 16 3.200 12.500c-.5-1 .8-2 1.800-1z" fill="#f0b429" transform="rotate(18 10 10)"/>${stroke("M15.500 3c1 .5 1.700 1.300 2 2.300M2.500 16c.5 1 1.200 1.600 2.200 2", "#8a8f98", 1.2)}`,
  "🛠": stroke("M4 16l9-9M12 4l4 4M5 5l10 10", "#7b8794", 2.6), "🔧": stroke("M4 16l8-8M12 8a3.500 3.500 0 0 0 5-4l-2.500 2-1.500-1.500L15 2a3.500 3.500 0 0 0-4 5", "#7b8794", 2.2),
};

function hasColourFont() {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  context.font = "20px sans-serif";
  context.textBaseline = "top";
  context.fillText("🔴", 0, 0);
  const { data } = context.getImageData(0, 0, 24, 24);
  for (let index = 0; index < data.length; index += 4) {
    if (data[index + 3] > 64 && Math.abs(data[index] - data[index + 2]) > 60) return true;
  }
  return false;
}

const drawAll = !hasColourFont();
const bare = (character) => character.replace(/\uFE0F/g, "");
const PATTERN = new RegExp(`(${Object.keys(DRAWN).join("|")})\\uFE0F?`, "u");

function drawn(character, label) {
  const span = document.createElement("span");
  span.className = "emoji drawn";
  span.role = "img";
  span.ariaLabel = label || character;
  span.title = label ? `:${label}:` : "";
  span.innerHTML = `<svg viewBox="0 0 20 20" aria-hidden="true">${DRAWN[bare(character)]}</svg>`; // fixed drawings only
  return span;
}

/** The node of an emoji by its short name; an unknown name stays as it was typed. */
export function emoji(name) {
  const character = NAMES[name];
  if (!character) return document.createTextNode(`:${name}:`);
  if (drawAll && DRAWN[bare(character)]) return drawn(character, name);
  const span = document.createElement("span");
  span.className = "emoji";
  span.role = "img";
  span.ariaLabel = name;
  span.title = `:${name}:`;
  span.textContent = character;
  return span;
}

/** Append text in which emoji characters are drawn where the machine cannot show them. */
export function appendText(parent, text) {
  let rest = text;
  while (drawAll && rest) {
    const found = PATTERN.exec(rest);
    if (!found) break;
    parent.append(rest.slice(0, found.index), drawn(found[1]));
    rest = rest.slice(found.index + found[0].length);
  }
  parent.append(rest);
}

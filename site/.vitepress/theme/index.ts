import { defineAsyncComponent } from "vue";
import Theme from "vitepress/theme-without-fonts";
import type { App } from "vue";
import StartPlayground from "./StartPlayground.vue";
import "./style.css";

export default {
  extends: Theme,
  enhanceApp({ app }: { app: App }) {
    // The editor, the simulator and the programs are loaded where they are shown.
    app.component("Playground", defineAsyncComponent(() => import("../../playground/Playground.vue")));
    app.component("StartPlayground", StartPlayground);
  },
};

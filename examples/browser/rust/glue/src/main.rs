//! `glue MODULE DIRECTORY`: makes a JavaScript module for the web of what rustc made.

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(module), Some(directory)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: glue MODULE DIRECTORY");
    };
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen.input_path(module).web(true)?.omit_default_module_path(false).typescript(false);
    bindgen.remove_name_section(true).generate(directory)
}

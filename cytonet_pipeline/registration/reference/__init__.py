"""The reference space: template, atlas and surfaces of Colin-27, and distances along its cortex."""
